// Rounds a matrix to int4 so that its products with the probe's inputs stay, not its values: each column's error is made up for in
// the columns that are still to be rounded (GPTQ, Frantar et al. 2022, within spans). Blocks whose values lie close to the grid they
// had before stay on it: what an adapter adds is small beside a step, and a fresh grid would round everything anew.

import { BLOCK_SIZE, quantizeInt4, type QuantizedRows } from '../quantization.js';
import type { SpanFactor } from './input-statistics.js';

const ZERO = 8;
const MAX_CODE = 15;
/** Mean square of what rounding takes away, in squares of a step: values are evenly spread between two codes. */
const USUAL_ERROR = 1 / 12;

/** Scales and minima of blocks, both [rows, blocks]. */
export interface Int4Grid {
  readonly scales: Float32Array;
  readonly minima: Float32Array;
}

/** `values` [rows, cols] is used as scratch; `before` is the grid of the matrix that the values were made from, or null. */
export function roundCompensated(
  values: Float32Array,
  rows: number,
  cols: number,
  factors: readonly SpanFactor[],
  before: Int4Grid | null,
): QuantizedRows {
  const blocks = Math.ceil(cols / BLOCK_SIZE);
  const grid = before === null ? freshGrid(values, rows, cols) : gridNear(values, rows, cols, before);
  const data = new Uint8Array((rows * blocks * BLOCK_SIZE) / 2).fill(ZERO | (ZERO << 4));
  const codes = new Uint8Array(blocks * BLOCK_SIZE);
  for (let row = 0; row < rows; row++) {
    const x = values.subarray(row * cols, (row + 1) * cols);
    codes.fill(ZERO);
    for (const factor of factors) roundSpan(x, codes, row * blocks, grid, factor);
    for (let k = 0, at = (row * blocks * BLOCK_SIZE) / 2; k < codes.length; k += 2, at++)
      data[at] = codes[k]! | (codes[k + 1]! << 4);
  }
  return {
    kind: 'int4',
    blockSize: BLOCK_SIZE,
    data,
    scales: grid.scales,
    minima: { blockSize: BLOCK_SIZE, data: grid.minima },
  };
}

/** One row's columns of a span; the row's blocks begin at `firstBlock` of the grid. */
function roundSpan(
  x: Float32Array,
  codes: Uint8Array,
  firstBlock: number,
  { scales, minima }: Int4Grid,
  { start, size, upper }: SpanFactor,
): void {
  for (let i = 0; i < size; i++) {
    const k = start + i;
    const block = firstBlock + Math.floor(k / BLOCK_SIZE);
    const scale = scales[block]!;
    const code = nearestCode(x[k]!, scale, minima[block]!);
    codes[k] = code;
    const error = x[k]! - valueOf(code, scale, minima[block]!);
    if (error === 0) continue;
    const share = error / upper[i * size + i]!;
    for (let j = i + 1, at = i * size; j < size; j++) x[start + j]! -= share * upper[at + j]!;
  }
}

function freshGrid(values: Float32Array, rows: number, cols: number): Int4Grid {
  const { scales, minima } = quantizeInt4(values, rows, cols);
  return { scales, minima: minima!.data };
}

/** A block's earlier grid, unless plain rounding on it is further off than rounding mostly is and a fresh one is closer. */
function gridNear(values: Float32Array, rows: number, cols: number, before: Int4Grid): Int4Grid {
  const grid: Int4Grid = { scales: before.scales.slice(), minima: before.minima.slice() };
  const blocks = Math.ceil(cols / BLOCK_SIZE);
  for (let block = 0; block < rows * blocks; block++) {
    const row = Math.floor(block / blocks);
    const from = row * cols + (block - row * blocks) * BLOCK_SIZE;
    const own = values.subarray(from, Math.min(from + BLOCK_SIZE, (row + 1) * cols));
    const error = squaredError(own, before, block);
    if (error <= own.length * before.scales[block]! ** 2 * USUAL_ERROR) continue;
    const fresh = freshGrid(own, 1, own.length);
    if (error <= squaredError(own, fresh, 0)) continue;
    grid.scales[block] = fresh.scales[0]!;
    grid.minima[block] = fresh.minima[0]!;
  }
  return grid;
}

function squaredError(values: Float32Array, { scales, minima }: Int4Grid, block: number): number {
  const [scale, minimum] = [scales[block]!, minima[block]!];
  let sum = 0;
  for (const value of values)
    sum += (value - valueOf(nearestCode(value, scale, minimum), scale, minimum)) ** 2;
  return sum;
}

/** In f32, as a stored matrix is read: then a value on the grid has no error at all. */
function valueOf(code: number, scale: number, minimum: number): number {
  return Math.fround(scale * (code - ZERO) + minimum);
}

function nearestCode(value: number, scale: number, minimum: number): number {
  const code = scale === 0 ? ZERO : Math.round((value - minimum) / scale) + ZERO;
  return Math.min(MAX_CODE, Math.max(0, code));
}
