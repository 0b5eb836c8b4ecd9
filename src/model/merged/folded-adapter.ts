// An adapter as constants of the graph, beside the base's own weights, for batches in which every row has it: nothing is masked,
// gathered or packed anew in each run, and nothing is rounded. A of a group's projections lie side by side [K, R], their B are the
// blocks of a diagonal [R, N]: one product each, though it reads the zeros between them.

import type { GroupShape } from '../adapter-nodes.js';
import type { Architecture, Projection } from '../architecture.js';
import type { GraphBuilder } from '../../graph/builder.js';
import { groupShape } from '../group-shape.js';
import { GROUP_NAMES, GROUPS, type GroupName } from '../projection-group.js';

/** What an adapter changes in one block of the model: see LayerDelta (adapters/types.ts), which is one. */
export interface LayerChange {
  readonly lora: Readonly<Partial<Record<Projection, LowRankChange>>>;
  readonly affine: Readonly<Partial<Record<Projection, AffineChange>>>;
}

interface LowRankChange {
  readonly rank: number;
  /** [in, rank]. */
  readonly a: Float32Array;
  /** [rank, out]. */
  readonly b: Float32Array;
}

interface AffineChange {
  readonly outScale: Float32Array | null;
  readonly inScale: Float32Array | null;
  readonly bias: Float32Array | null;
}

export interface FoldedConstant {
  readonly name: string;
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

/** x as the group's product takes it. */
export function foldInput(
  graph: GraphBuilder,
  x: string,
  { name }: GroupShape,
  has: (name: string) => boolean,
): string {
  const scale = `folded.${name}.in_scale`;
  return has(scale) ? graph.node('Mul', `folded.${name}.x`, [x, scale]) : x;
}

/** y with what the adapter adds to it. */
export function foldOutput(
  graph: GraphBuilder,
  x: string,
  y: string,
  { name }: GroupShape,
  has: (name: string) => boolean,
): string {
  const prefix = `folded.${name}`;
  let out = y;
  if (has(`${prefix}.a`)) {
    const down = graph.node('MatMul', `${prefix}.down`, [x, `${prefix}.a`]);
    const up = graph.node('MatMul', `${prefix}.up`, [down, `${prefix}.b`]);
    out = graph.node('Add', `${prefix}.sum`, [out, up]);
  }
  if (has(`${prefix}.out_scale`)) out = graph.node('Mul', `${prefix}.scaled`, [out, `${prefix}.out_scale`]);
  return has(`${prefix}.bias`) ? graph.node('Add', `${prefix}.biased`, [out, `${prefix}.bias`]) : out;
}

/** The constants that those nodes refer to. */
export function foldedConstants(arch: Architecture, layers: readonly LayerChange[]): FoldedConstant[] {
  return layers.flatMap((change, layer) =>
    GROUP_NAMES.flatMap((group) => groupConstants(arch, layer, group, change)),
  );
}

function groupConstants(
  arch: Architecture,
  layer: number,
  group: GroupName,
  { lora, affine }: LayerChange,
): FoldedConstant[] {
  const { name, inputSize, outputSizes } = groupShape(arch, layer, group);
  const projections: readonly Projection[] = GROUPS[group];
  const prefix = `folded.${name}`;
  const found: FoldedConstant[] = [];
  const rank = projections.reduce((sum, projection) => sum + (lora[projection]?.rank ?? 0), 0);
  const numOutputs = outputSizes.reduce((sum, size) => sum + size, 0);
  if (rank > 0) {
    const { a, b } = sideBySide(
      projections.map((projection) => lora[projection] ?? null),
      outputSizes,
      inputSize,
      rank,
    );
    found.push({ name: `${prefix}.a`, values: a, shape: [inputSize, rank] });
    found.push({ name: `${prefix}.b`, values: b, shape: [rank, numOutputs] });
  }
  const parts = projections.map((projection) => affine[projection] ?? null);
  const inScale = parts[0]?.inScale ?? null;
  if (projections.length === 1 && inScale !== null)
    found.push({ name: `${prefix}.in_scale`, values: inScale, shape: [inputSize] });
  for (const [kind, key, rest] of [
    ['out_scale', 'outScale', 1],
    ['bias', 'bias', 0],
  ] as const) {
    if (!parts.some((part) => part !== null && part[key] !== null)) continue;
    const values = new Float32Array(numOutputs);
    let at = 0;
    parts.forEach((part, i) => {
      const own = part?.[key] ?? null;
      if (own === null) values.fill(rest, at, at + outputSizes[i]!);
      else values.set(own, at);
      at += outputSizes[i]!;
    });
    found.push({ name: `${prefix}.${kind}`, values, shape: [numOutputs] });
  }
  return found;
}

function sideBySide(
  changes: readonly (LowRankChange | null)[],
  outputSizes: readonly number[],
  inputSize: number,
  rank: number,
): { readonly a: Float32Array; readonly b: Float32Array } {
  const numOutputs = outputSizes.reduce((sum, size) => sum + size, 0);
  const a = new Float32Array(inputSize * rank);
  const b = new Float32Array(rank * numOutputs);
  let firstRank = 0;
  let firstOutput = 0;
  changes.forEach((change, i) => {
    const size = outputSizes[i]!;
    if (change !== null) {
      for (let k = 0; k < inputSize; k++)
        a.set(change.a.subarray(k * change.rank, (k + 1) * change.rank), k * rank + firstRank);
      for (let r = 0; r < change.rank; r++)
        b.set(change.b.subarray(r * size, (r + 1) * size), (firstRank + r) * numOutputs + firstOutput);
      firstRank += change.rank;
    }
    firstOutput += size;
  });
  return { a, b };
}
