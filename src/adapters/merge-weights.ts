// An adapter as a change of the base's dense weights. What the serving graph computes for a row with an adapter,
//   y = outScale * (W (inScale * x) + (A B)ᵀ (inScale * x)) + bias + own bias,
// is y = W' x + b' with, for output n and input k,
//   W'[n,k] = outScale[n] * (W[n,k] + sum over r of A[k,r] * B[r,n]) * inScale[k]    and    b'[n] = own[n] + bias[n].
// A is [in, rank] and B [rank, out] as LoraDelta holds them, with the scale in B. Each number is computed in f64 and rounded to f32 once.

import { PROJECTIONS, type Projection } from '../model/architecture.js';
import { unsupportedAdapter } from './refusal.js';
import type {
  AffineDelta,
  LayerDelta,
  LoraAdapter,
  LoraDelta,
  PromptEmbeddings,
  ServingAdapter,
} from './types.js';

/** What an adapter makes of one projection. */
export interface ProjectionChange {
  readonly lora: LoraDelta | null;
  readonly affine: AffineDelta | null;
}

/** Replaces W's row n, the `in` values at weights[at ...], by W's. */
export type RowMerger = (n: number, weights: Float32Array, at: number) => void;

/**
 * LoRA, rsLoRA, DoRA, LoHa, LoKr, IA3, BitFit and combinations are changes of weights.
 * Throws unsupported_adapter for prefixes, which are tokens, and bottlenecks, which are not linear.
 */
export function mergeable(name: string, adapter: ServingAdapter | PromptEmbeddings): LoraAdapter {
  if (adapter.kind === 'lora') return adapter;
  const reason =
    adapter.kind === 'bottleneck'
      ? 'has bottlenecks with an activation between their matrices, which no weight of the base can hold'
      : `has ${adapter.numVirtualTokens} virtual tokens in front of the prompt, which no weight can hold`;
  throw unsupportedAdapter(`${name} cannot be merged: it ${reason}; use it unmerged`, 'adapter');
}

/** The change of one projection of a block, or null where the adapter leaves it alone. */
export function projectionChange(layer: LayerDelta, projection: Projection): ProjectionChange | null {
  const lora = layer.lora[projection] ?? null;
  const affine = layer.affine[projection] ?? null;
  return lora === null && affine === null ? null : { lora, affine };
}

/** The projections of a block whose weight the adapter changes; those with a trained bias alone are left out. */
export function mergedProjections(layer: LayerDelta): readonly Projection[] {
  return PROJECTIONS.filter((projection) => {
    const { lora, affine } = projectionChange(layer, projection) ?? { lora: null, affine: null };
    return lora !== null || (affine !== null && (affine.outScale !== null || affine.inScale !== null));
  });
}

/** `cols` is the projection's number of inputs. The merger keeps a transposed copy of A. */
export function rowMerger({ lora, affine }: ProjectionChange, cols: number): RowMerger {
  const a = lora === null ? null : transposed(lora.a, cols, lora.rank);
  const sums = new Float64Array(cols);
  const outScale = affine?.outScale ?? null;
  const inScale = affine?.inScale ?? null;
  return (n, weights, at) => {
    for (let k = 0; k < cols; k++) sums[k] = weights[at + k]!;
    if (lora !== null) addLowRank(sums, a!, lora, n);
    const factor = outScale === null ? 1 : outScale[n]!;
    if (inScale === null) for (let k = 0; k < cols; k++) weights[at + k] = sums[k]! * factor;
    else for (let k = 0; k < cols; k++) weights[at + k] = sums[k]! * factor * inScale[k]!;
  };
}

/** b' [out], a new array; null where neither the base nor the adapter has one. */
export function mergedBias(own: Float32Array | null, change: ProjectionChange | null): Float32Array | null {
  const added = change?.affine?.bias ?? null;
  if (added === null) return own === null ? null : own.slice();
  return own === null ? added.slice() : added.map((value, n) => own[n]! + value);
}

/** sums [in] += row n of (A B)ᵀ; `a` is [rank, in]. Four ranks in a turn, which reads and writes the sums a quarter as often. */
function addLowRank(sums: Float64Array, a: Float32Array, { rank, b }: LoraDelta, n: number): void {
  const cols = sums.length;
  const out = b.length / rank;
  let r = 0;
  for (; r + 4 <= rank; r += 4) {
    const [b0, b1, b2, b3] = [
      b[r * out + n]!,
      b[(r + 1) * out + n]!,
      b[(r + 2) * out + n]!,
      b[(r + 3) * out + n]!,
    ];
    const [a0, a1, a2, a3] = [r * cols, (r + 1) * cols, (r + 2) * cols, (r + 3) * cols];
    for (let k = 0; k < cols; k++)
      sums[k]! += b0 * a[a0 + k]! + b1 * a[a1 + k]! + b2 * a[a2 + k]! + b3 * a[a3 + k]!;
  }
  for (; r < rank; r++) {
    const factor = b[r * out + n]!;
    for (let k = 0, from = r * cols; k < cols; k++) sums[k]! += factor * a[from + k]!;
  }
}

/** [rows, cols] -> [cols, rows]. */
function transposed(values: Float32Array, rows: number, cols: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) result[col * rows + row] = values[row * cols + col]!;
  return result;
}
