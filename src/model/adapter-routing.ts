// How the rows of a batch reach the matrices of their adapters, for every kind of adapter that has a bank: the inputs that say which row
// belongs where, and the nodes that bring x there and the result back. G adapters in the run, B rows, S tokens a row, K inputs.
//
//  single   one adapter: x stays [B, S, K]; rows without it are masked. No gather.
//  grouped  rows are gathered by adapter into [G, M*S, K] (M = rows of the adapter that has most, the others padded), multiplied
//           batch-wise, and gathered back: each adapter's matrices are read once, and no row meets another's.
//  rows     each row names its adapter, and one native operator takes it from there (native/low-rank.c). LoRA only.
//  rows16   the same over a bank of f16.
//  plain    every row times every adapter, masked, summed: the reference that the others are tested against.

import { int, type GraphBuilder } from '../graph/builder.js';

export type BankForm = 'none' | 'single' | 'grouped' | 'rows' | 'rows16' | 'plain';
/** The kinds that have a bank; a kind's inputs begin with its name. */
export type BankKind = 'lora' | 'bottleneck';

/** Declares the inputs that all places of a kind share. */
export function declareRouting(graph: GraphBuilder, kind: BankKind, form: BankForm): void {
  if (form === 'none') return;
  if (form === 'rows' || form === 'rows16') {
    graph.input(`${kind}.adapters`, 'i32', ['B']);
    return;
  }
  if (form === 'single') {
    graph.input(`${kind}.mask`, 'f32', ['B', 1, 1]);
    return;
  }
  graph.input(`${kind}.mask`, 'f32', [`${kind}.G`, `${kind}.MS`, 1]);
  graph.input(`${kind}.back_shape`, 'i64', [3]);
  graph.input(`${kind}.grouped_shape`, 'i64', [3]);
  if (form === 'plain') {
    graph.constant(`${kind}.axis0`, BigInt64Array.of(0n), [1]);
    return;
  }
  graph.input(`${kind}.entries`, 'i64', [`${kind}.E`]);
  graph.input(`${kind}.back`, 'i64', ['B']);
}

/** [B, S, K] -> [G, M*S, K] (grouped), or [1, B*S, K] that broadcasts over the adapters (plain). */
export function toAdapters(
  graph: GraphBuilder,
  kind: BankKind,
  form: BankForm,
  x: string,
  name: string,
): string {
  if (form === 'single') return x;
  const rows =
    form === 'grouped'
      ? graph.node('Gather', `${name}.gathered`, [x, `${kind}.entries`], { axis: int(0) })
      : x;
  return graph.node('Reshape', `${name}.grouped`, [rows, `${kind}.grouped_shape`]);
}

/** The inverse, summed over the adapters where every row met each. */
export function toRows(
  graph: GraphBuilder,
  kind: BankKind,
  form: BankForm,
  delta: string,
  name: string,
): string {
  if (form === 'single') return delta;
  if (form === 'grouped') {
    const entries = graph.node('Reshape', `${name}.entries`, [delta, `${kind}.back_shape`]);
    return graph.node('Gather', `${name}.rows`, [entries, `${kind}.back`], { axis: int(0) });
  }
  const total = graph.node('ReduceSum', `${name}.total`, [delta, `${kind}.axis0`], { keepdims: int(1) });
  return graph.node('Reshape', `${name}.rows`, [total, `${kind}.back_shape`]);
}
