// DoRA (https://arxiv.org/abs/2402.09353): each output row of W + s B A is brought to a trained length. As a factor on the output this is
// magnitude / ||row||; the base's own bias stays outside of it (peft/tuners/lora/dora.py).

import { CONFIG_FILE } from './adapter-files.js';
import type { AdapterBase, Site } from './base.js';
import type { Matrix } from './low-rank.js';
import type { Pacer } from './pacer.js';
import { invalidAdapter } from './refusal.js';

/** Magnitudes are stored in f32 and norms depend on the order of summation: closer to 1 than this is 1. */
const TOLERANCE = 1e-5;

/** The factors [out] for B = left [out, r] and A = right [r, in], or null where all are 1. Throws invalid_adapter for a zero row. */
export async function doraScale(
  site: Site,
  base: AdapterBase,
  left: Matrix,
  right: Matrix,
  scale: number,
  magnitude: Float32Array,
  pacer: Pacer,
): Promise<Float32Array | null> {
  const weight = base.weight(site.weightName);
  const rows = padded(right);
  const sum = new Float64Array(right.cols);
  const factors = new Float32Array(left.rows);
  for (let out = 0; out < left.rows; out++) {
    for (let col = 0; col < right.cols; col++) sum[col] = weight[out * right.cols + col]!;
    for (let rank = 0; rank < left.cols; rank += 4) addFourRows(sum, rows, left, rank, out, scale);
    const norm = length(sum);
    factors[out] = magnitude[out]! / norm;
    if (!Number.isFinite(factors[out]))
      throw invalidAdapter(
        `${CONFIG_FILE}: \`use_dora\`: row ${out} of ${site.module} has length ${norm}, so that it cannot be scaled to ${magnitude[out]}`,
        'use_dora',
      );
    await pacer.spent(right.cols * (1 + right.rows / 4));
  }
  return factors.every((factor) => Math.abs(factor - 1) <= TOLERANCE) ? null : factors;
}

/** A in f64, with rows of zeros up to a multiple of four. */
function padded({ rows, cols, data }: Matrix): Float64Array {
  const result = new Float64Array(Math.ceil(rows / 4) * 4 * cols);
  result.set(data);
  return result;
}

/** sum += scale * B[out, rank .. rank + 4) A[rank .. rank + 4): four at a time, because this is most of the time that a DoRA takes to load. */
function addFourRows(
  sum: Float64Array,
  rows: Float64Array,
  left: Matrix,
  rank: number,
  out: number,
  scale: number,
): void {
  const factor = (offset: number) =>
    rank + offset < left.cols ? left.data[out * left.cols + rank + offset]! * scale : 0;
  const [f0, f1, f2, f3] = [factor(0), factor(1), factor(2), factor(3)];
  const cols = sum.length;
  const r0 = rank * cols;
  const [r1, r2, r3] = [r0 + cols, r0 + 2 * cols, r0 + 3 * cols];
  for (let col = 0; col < cols; col++)
    sum[col]! += f0 * rows[r0 + col]! + f1 * rows[r1 + col]! + f2 * rows[r2 + col]! + f3 * rows[r3 + col]!;
}

function length(values: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at++) sum += values[at]! * values[at]!;
  return Math.sqrt(sum);
}
