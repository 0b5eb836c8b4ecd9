// What adapters add to a group of projections: low-rank updates of the rows that have one, and per-row scales and biases.
// G adapters in the batch, B rows, S tokens a row, R rank (of the batch's widest adapter), K inputs, N outputs, P projections a group.
//
// Every form takes the same bank: A [G, K, P*R] (the projections' A side by side) and one B [G, R, N] a projection.
//  single   one adapter: x·A·B for all rows, rows without it masked. No gather.
//  grouped  rows are gathered by adapter into [G, M*S, K] (M = rows of the adapter that has most, the others padded), multiplied
//           batch-wise, and gathered back: each adapter's matrices are read once, and no row meets another's.
//  plain    every row times every adapter, masked, summed: the reference that the others are tested against.

import { int, type GraphBuilder } from '../graph/builder.js';

export type LoraForm = 'none' | 'single' | 'grouped' | 'plain';

export interface GroupShape {
  /** Unique prefix: `layers.3.qkv`. */
  readonly name: string;
  readonly inputSize: number;
  readonly outputSizes: readonly number[];
}

/** Declares the inputs that all groups share. */
export function declareAdapterInputs(graph: GraphBuilder, form: LoraForm): void {
  if (form === 'none') return;
  if (form === 'single') {
    graph.input('lora.mask', 'f32', ['B', 1, 1]);
    return;
  }
  graph.input('lora.mask', 'f32', ['G', 'MS', 1]);
  graph.input('lora.back_shape', 'i64', [3]);
  graph.input('lora.grouped_shape', 'i64', [3]);
  if (form === 'plain') return;
  graph.input('lora.entries', 'i64', ['E']);
  graph.input('lora.back', 'i64', ['B']);
}

/** y plus the low-rank update of x, [B, S, N]. */
export function addLora(
  graph: GraphBuilder,
  form: LoraForm,
  x: string,
  y: string,
  group: GroupShape,
): string {
  if (form === 'none') return y;
  const name = `lora.${group.name}`;
  const grouped = form === 'single' ? x : toGroups(graph, form, x, name);
  const delta = lowRank(graph, grouped, group, name);
  const back = form === 'single' ? delta : toRows(graph, form, delta, name);
  return graph.node('Add', `${name}.sum`, [y, back]);
}

/** y * outScale + bias, by row. Names of the inputs: `affine.${group}.out_scale`, `.bias` [B, 1, N]. */
export function addAffine(graph: GraphBuilder, y: string, group: GroupShape): string {
  const size = group.outputSizes.reduce((sum, n) => sum + n, 0);
  const scale = graph.input(`affine.${group.name}.out_scale`, 'f32', ['B', 1, size]);
  const bias = graph.input(`affine.${group.name}.bias`, 'f32', ['B', 1, size]);
  const scaled = graph.node('Mul', `affine.${group.name}.scaled`, [y, scale]);
  return graph.node('Add', `affine.${group.name}.y`, [scaled, bias]);
}

/** x * inScale, by row. Name of the input: `affine.${group}.in_scale` [B, 1, K]. */
export function scaleInput(graph: GraphBuilder, x: string, group: GroupShape): string {
  const scale = graph.input(`affine.${group.name}.in_scale`, 'f32', ['B', 1, group.inputSize]);
  return graph.node('Mul', `affine.${group.name}.x`, [x, scale]);
}

function lowRank(graph: GraphBuilder, x: string, group: GroupShape, name: string): string {
  const numParts = group.outputSizes.length;
  const a = graph.input(`${name}.a`, 'f32', ['G', group.inputSize, `R${numParts}`]);
  const down = graph.node('MatMul', `${name}.down`, [x, a]);
  const masked = graph.node('Mul', `${name}.masked`, [down, 'lora.mask']);
  const parts =
    numParts === 1
      ? [masked]
      : graph.nodeN('Split', `${name}.part`, [masked], [...group.outputSizes.keys()], {
          axis: int(-1),
          num_outputs: int(numParts),
        });
  const deltas = group.outputSizes.map((size, i) =>
    graph.node('MatMul', `${name}.delta${i}`, [
      parts[i]!,
      graph.input(`${name}.b${i}`, 'f32', ['G', 'R', size]),
    ]),
  );
  return numParts === 1 ? deltas[0]! : graph.node('Concat', `${name}.delta`, deltas, { axis: int(-1) });
}

/** [B, S, K] -> [G, M*S, K] (grouped), or [1, B*S, K] that broadcasts over the adapters (plain). */
function toGroups(graph: GraphBuilder, form: LoraForm, x: string, name: string): string {
  const rows =
    form === 'grouped' ? graph.node('Gather', `${name}.gathered`, [x, 'lora.entries'], { axis: int(0) }) : x;
  return graph.node('Reshape', `${name}.grouped`, [rows, 'lora.grouped_shape']);
}

/** The inverse, summed over the adapters where every row met each. */
function toRows(graph: GraphBuilder, form: LoraForm, delta: string, name: string): string {
  if (form === 'grouped') {
    const entries = graph.node('Reshape', `${name}.entries`, [delta, 'lora.back_shape']);
    return graph.node('Gather', `${name}.rows`, [entries, 'lora.back'], { axis: int(0) });
  }
  const total = graph.node('ReduceSum', `${name}.total`, [delta, 'lora.axis0'], { keepdims: int(1) });
  return graph.node('Reshape', `${name}.rows`, [total, 'lora.back_shape']);
}

/** Constants that the form's nodes refer to. */
export function declareAdapterConstants(graph: GraphBuilder, form: LoraForm): void {
  if (form === 'plain') graph.constant('lora.axis0', BigInt64Array.of(0n), [1]);
}
