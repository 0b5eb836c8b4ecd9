// The two graphs of a block's training step. Beside y, the forward graph gives what is kept for the backward graph, which computes the
// rest of the block again.

import { assert } from '../../errors.js';
import { GraphBuilder } from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';
import { differentiate } from '../autodiff/differentiate.js';
import { Expressions } from '../autodiff/expressions.js';
import type { Shape } from '../autodiff/shapes.js';
import { type BlockSpec, drawBlock } from './block-graph.js';
import { blockInputs } from './block-inputs.js';
import type { Keeping } from './kept-values.js';
import { subgraph } from './subgraph.js';

export interface ForwardPass {
  readonly graph: GraphBuilder;
  readonly y: string;
}

export interface BackwardPass {
  /** Takes the forward graph's inputs, those in `kept`, and dy. */
  readonly graph: GraphBuilder;
  /** Input of the block (x, and those of blockInputs) -> the output that is its gradient. */
  readonly gradients: ReadonlyMap<string, string>;
}

/** What is kept between the passes, beside the block's input, is `kept`: outputs of the forward graph. */
export interface BlockPasses {
  readonly forward: ForwardPass;
  readonly backward: BackwardPass;
  readonly kept: readonly string[];
}

export function forwardPass(spec: BlockSpec): ForwardPass {
  const e = new Expressions(new GraphBuilder(), 'block');
  const { y } = drawBlock(e, spec);
  return { graph: subgraph(e.graph, shapesOf(e, [y])), y };
}

export function blockPasses(spec: BlockSpec, keeping: Keeping): BlockPasses {
  const e = new Expressions(new GraphBuilder(), 'block');
  const { y, products } = drawBlock(e, spec);
  const numForward = e.graph.nodes.length;
  const dy = e.graph.input('dy', 'f32', e.shape(y));
  const wanted = ['x', ...blockInputs(spec.arch, spec.additions).keys()];
  const names = differentiate(e.graph, new Map([[y, dy]]), wanted);
  const outputs = shapesOf(e, names);
  const offered = {
    nothing: () => [],
    products: () => products,
    all: () => keptValues(e, subgraph(e.graph, outputs).nodes, numForward),
  }[keeping]();
  const backward = subgraph(e.graph, outputs, shapesOf(e, offered));
  const kept = offered.filter((value) => backward.inputs.some(({ name }) => name === value));
  return {
    forward: { graph: subgraph(e.graph, shapesOf(e, [y, ...kept])), y },
    backward: {
      graph: backward,
      gradients: new Map(wanted.map((name, i) => [name, names[i]!])),
    },
    kept,
  };
}

/**
 * The forward values that backward nodes read. What does not depend on x (dequantized weights) is computed again instead, and so are
 * reshaped values, which cost nothing.
 */
function keptValues(e: Expressions, needed: readonly Node[], numForward: number): string[] {
  const forward = e.graph.nodes.slice(0, numForward);
  const maker = new Map(forward.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const dependent = new Set(['x']);
  for (const { inputs, outputs } of forward)
    if (inputs.some((name) => dependent.has(name))) for (const name of outputs) dependent.add(name);
  const kept = new Set<string>();
  for (const node of needed) {
    if (node.outputs.some((name) => maker.has(name))) continue;
    for (let name of node.inputs) {
      while (maker.get(name)?.op === 'Reshape') name = maker.get(name)!.inputs[0]!;
      if (maker.has(name) && dependent.has(name)) kept.add(name);
    }
  }
  return [...kept];
}

function shapesOf(e: Expressions, names: readonly string[]): ReadonlyMap<string, Shape> {
  assert(
    names.every((name) => !e.graph.inputs.some((input) => input.name === name)),
    'a gradient is an input',
  );
  return new Map(names.map((name) => [name, e.shape(name)]));
}
