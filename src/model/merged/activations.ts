// What flows into each group of projections while probe prompts run: the graph with these values as outputs, one prompt at a time.

import { writeFileSync } from 'node:fs';
import { assert } from '../../errors.js';
import type { Runtime } from '../../runtime/runtime.js';
import type { Session } from '../../runtime/session.js';
import type { Tensor } from '../../runtime/tensor.js';
import type { Architecture } from '../architecture.js';
import { groupShape } from '../group-shape.js';
import { GROUP_NAMES } from '../projection-group.js';
import { ropeTables } from '../rope.js';
import { BASE_VARIANT, drawServingGraph, type GraphWeights } from '../serving-graph.js';
import { InputStatistics } from './input-statistics.js';

/** Writes the graph to `path`; its folder holds what `weights` refers to. */
export function writeActivationGraph(arch: Architecture, weights: GraphWeights, path: string): void {
  const graph = drawServingGraph(arch, weights, BASE_VARIANT);
  for (const { group, name, cols } of groupInputs(arch)) {
    const product = `${weights.packs(group)[0]!.name}.y`;
    const node = graph.nodes.find((each) => each.name === product);
    assert(node !== undefined, `the graph has no product ${product}`);
    graph.node('Identity', name, [node.inputs[0]!]);
    graph.output(name, 'f32', ['B', 'S', cols]);
  }
  writeFileSync(path, graph.encode());
}

/** How the inputs of each group vary over the prompts, by the group's name. `embed` gives the rows [tokens, H] of a prompt. */
export async function inputStatistics(
  runtime: Runtime,
  session: Session,
  arch: Architecture,
  prompts: readonly Float32Array[],
): Promise<ReadonlyMap<string, InputStatistics>> {
  const found = new Map(groupInputs(arch).map(({ group, cols }) => [group, new InputStatistics(cols)]));
  for (const embeds of prompts)
    for (const [group, values] of await runPrompt(runtime, session, arch, embeds))
      found.get(group)!.add(values);
  return found;
}

interface GroupInput {
  readonly group: string;
  readonly name: string;
  readonly cols: number;
}

function groupInputs(arch: Architecture): readonly GroupInput[] {
  return Array.from({ length: arch.numLayers }, (_, layer) =>
    GROUP_NAMES.map((each) => {
      const { name, inputSize } = groupShape(arch, layer, each);
      return { group: name, name: `${name}.input`, cols: inputSize };
    }),
  ).flat();
}

async function runPrompt(
  runtime: Runtime,
  session: Session,
  arch: Architecture,
  embeds: Float32Array,
): Promise<readonly (readonly [string, Float32Array])[]> {
  const numTokens = embeds.length / arch.hiddenSize;
  const { cos, sin } = ropeTables(arch, numTokens);
  const cacheShape = [1, arch.numKvHeads, numTokens, arch.headDim];
  const cacheSize = arch.numKvHeads * numTokens * arch.headDim;
  const cache = Array.from({ length: arch.numLayers }, (_, layer) =>
    ['k', 'v'].map((kind) => `${layer}.${kind}`),
  )
    .flat()
    .map((name) => ({ name, tensor: runtime.tensor(new Float32Array(cacheSize), cacheShape) }));
  const inputs: [string, Tensor][] = [
    ['cos', runtime.tensor(cos, [numTokens, arch.headDim / 2])],
    ['sin', runtime.tensor(sin, [numTokens, arch.headDim / 2])],
    ['embeds', runtime.tensor(embeds, [1, numTokens, arch.hiddenSize])],
    ['seqlens_k', runtime.tensor(Int32Array.of(numTokens - 1), [1])],
    ['total_len', runtime.tensor(Int32Array.of(numTokens), [])],
    ['logit_rows', runtime.tensor(BigInt64Array.of(0n), [1])],
  ];
  const groups = groupInputs(arch).map(({ group, name, cols }) => {
    const values = new Float32Array(numTokens * cols);
    return { group, name, values, tensor: runtime.tensor(values, [1, numTokens, cols]) };
  });
  const logits = runtime.tensor(new Float32Array(arch.vocabSize), [1, arch.vocabSize]);
  try {
    await session.run(
      [...inputs, ...cache.map(({ name, tensor }) => [`past.${name}`, tensor] as const)],
      [
        ['logits', logits],
        ...cache.map(({ name, tensor }) => [`present.${name}`, tensor] as const),
        ...groups.map(({ name, tensor }) => [name, tensor] as const),
      ],
    );
  } finally {
    for (const { tensor } of [...cache, ...groups, ...inputs.map(([, each]) => ({ tensor: each }))])
      tensor.dispose();
    logits.dispose();
  }
  return groups.map(({ group, values }) => [group, values] as const);
}
