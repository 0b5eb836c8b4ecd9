// The part of a graph that some outputs need.

import { GraphBuilder } from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';
import type { Shape } from '../autodiff/shapes.js';

/**
 * A graph of its own that computes `outputs` (value -> shape, f32), without what they do not need: unused inputs too. Values in `given`
 * become inputs instead of being computed. (The library would compute every node.)
 */
export function subgraph(
  source: GraphBuilder,
  outputs: ReadonlyMap<string, Shape>,
  given: ReadonlyMap<string, Shape> = new Map(),
): GraphBuilder {
  const needed = new Set(outputs.keys());
  const nodes: Node[] = [];
  for (const node of source.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name) && !given.has(name))) continue;
    nodes.push(node);
    for (const input of node.inputs) needed.add(input);
  }
  const part = new GraphBuilder();
  part.nodes.push(...nodes.toReversed());
  part.initializers.push(...source.initializers.filter(({ name }) => needed.has(name)));
  part.inputs.push(...source.inputs.filter(({ name }) => needed.has(name)));
  for (const [name, shape] of given) if (needed.has(name)) part.input(name, 'f32', shape);
  for (const [name, shape] of outputs) part.output(name, 'f32', shape);
  return part;
}
