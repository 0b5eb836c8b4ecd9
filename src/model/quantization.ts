// Rounds f32 matrices to int4 and int8 codes in blocks of 32 columns, in the layout of MatrixEntry (artifact.ts).
// For sources that are not quantized yet: those that are keep their codes (formats/ggml-blocks.ts).

import { assert } from '../errors.js';

/** Some rows of a matrix as codes: W = scale * (code - zero) + minimum, zero being 8 (int4) or 128 (int8). */
export interface QuantizedRows {
  readonly kind: 'int4' | 'int8';
  readonly blockSize: number;
  /** int4: [rows, blocks, blockSize / 2], the even column in the low nibble; int8: [rows, blocks, blockSize]. */
  readonly data: Uint8Array;
  /** [rows, blocks]. */
  readonly scales: Float32Array;
  readonly minima: { readonly blockSize: number; readonly data: Float32Array } | null;
}

export const BLOCK_SIZE = 32;
const INT4_ZERO = 8;
const INT8_ZERO = 128;
/** Steps of the search: the block's range is cut into 14, 14.1 ... 16 parts (15 is plain rounding between minimum and maximum). */
const CANDIDATES = 20;

/** What fits a block: values near scale * code + offset, code in 0..15. */
interface Fit {
  scale: number;
  offset: number;
}

/**
 * [rows, cols] f32 -> int4 with minima, or without them where `minima` is false (then W = scale * (code - 8)).
 * Each block's scale and offset minimise the squared error, weighted towards large weights, over a search of candidate scales
 * with a least-squares fit to each (the idea of llama.cpp's make_qkx2_quants). Columns of padding get the zero code.
 */
export function quantizeInt4(
  values: Float32Array,
  rows: number,
  cols: number,
  options: { readonly minima?: boolean } = {},
): QuantizedRows {
  assert(values.length === rows * cols, `${values.length} values are not [${rows}, ${cols}]`);
  const withMinima = options.minima ?? true;
  const blocks = Math.ceil(cols / BLOCK_SIZE);
  const data = new Uint8Array((rows * blocks * BLOCK_SIZE) / 2).fill(INT4_ZERO | (INT4_ZERO << 4));
  const scales = new Float32Array(rows * blocks);
  const minima = withMinima ? new Float32Array(rows * blocks) : null;
  const x = new Float64Array(BLOCK_SIZE);
  const weights = new Float64Array(BLOCK_SIZE);
  const fit: Fit = { scale: 0, offset: 0 };
  for (let block = 0; block < scales.length; block++) {
    const row = Math.floor(block / blocks);
    const from = row * cols + (block - row * blocks) * BLOCK_SIZE;
    const count = Math.min(BLOCK_SIZE, (row + 1) * cols - from);
    loadBlock(values, from, count, x, weights);
    if (minima === null) fitSymmetric(x, weights, count, fit);
    else fitAffine(x, weights, count, fit);
    scales[block] = fit.scale;
    if (minima !== null) minima[block] = fit.offset + INT4_ZERO * fit.scale;
    const offset = minima === null ? 0 : minima[block]!;
    storeInt4(x, count, scales[block]!, offset, data, (block * BLOCK_SIZE) / 2);
  }
  const found = minima === null ? null : { blockSize: BLOCK_SIZE, data: minima };
  return { kind: 'int4', blockSize: BLOCK_SIZE, data, scales, minima: found };
}

/** [rows, cols] f32 -> int8 without minima: scale = largest magnitude of the block / 127. Columns of padding get the zero code. */
export function quantizeInt8(values: Float32Array, rows: number, cols: number): QuantizedRows {
  assert(values.length === rows * cols, `${values.length} values are not [${rows}, ${cols}]`);
  const blocks = Math.ceil(cols / BLOCK_SIZE);
  const data = new Uint8Array(rows * blocks * BLOCK_SIZE).fill(INT8_ZERO);
  const scales = new Float32Array(rows * blocks);
  for (let block = 0; block < scales.length; block++) {
    const row = Math.floor(block / blocks);
    const from = row * cols + (block - row * blocks) * BLOCK_SIZE;
    const end = Math.min(from + BLOCK_SIZE, (row + 1) * cols);
    let largest = 0;
    for (let k = from; k < end; k++) largest = Math.max(largest, Math.abs(values[k]!));
    scales[block] = largest / 127;
    const inverse = scales[block]! > 0 ? 1 / scales[block]! : 0;
    const to = block * BLOCK_SIZE - from;
    for (let k = from; k < end; k++)
      data[to + k] = Math.min(255, Math.max(1, Math.round(values[k]! * inverse) + INT8_ZERO));
  }
  return { kind: 'int8', blockSize: BLOCK_SIZE, data, scales, minima: null };
}

/** The same values with each int4 code in a byte: exact. */
export function widenInt4(rows: Omit<QuantizedRows, 'kind'>): QuantizedRows {
  const data = new Uint8Array(rows.data.length * 2);
  for (let i = 0; i < rows.data.length; i++) {
    data[2 * i] = (rows.data[i]! & 15) + (INT8_ZERO - INT4_ZERO);
    data[2 * i + 1] = (rows.data[i]! >> 4) + (INT8_ZERO - INT4_ZERO);
  }
  return { ...rows, kind: 'int8', data };
}

/** The block's values, and their weights in the error: root mean square + magnitude, as llama.cpp weighs them. */
function loadBlock(
  values: Float32Array,
  from: number,
  count: number,
  x: Float64Array,
  weights: Float64Array,
): void {
  let squares = 0;
  for (let k = 0; k < count; k++) {
    x[k] = values[from + k]!;
    squares += x[k]! * x[k]!;
  }
  const rms = Math.sqrt(squares / count);
  for (let k = 0; k < count; k++) weights[k] = rms + Math.abs(x[k]!);
}

/** Codes of each candidate scale determine scale and offset by least squares; the best of them wins. */
function fitAffine(x: Float64Array, weights: Float64Array, count: number, fit: Fit): void {
  let min = Infinity;
  let max = -Infinity;
  let sumW = 0;
  let sumX = 0;
  for (let k = 0; k < count; k++) {
    if (x[k]! < min) min = x[k]!;
    if (x[k]! > max) max = x[k]!;
    sumW += weights[k]!;
    sumX += weights[k]! * x[k]!;
  }
  fit.scale = (max - min) / 15;
  fit.offset = min;
  if (max === min) return;
  let best = -Infinity;
  for (let candidate = 0; candidate <= CANDIDATES; candidate++) {
    const inverse = (14 + 0.1 * candidate) / (max - min);
    let sumQ = 0;
    let sumQQ = 0;
    let sumXQ = 0;
    for (let k = 0; k < count; k++) {
      const q = Math.min(15, (inverse * (x[k]! - min) + 0.5) | 0);
      const wq = weights[k]! * q;
      sumQ += wq;
      sumQQ += wq * q;
      sumXQ += wq * x[k]!;
    }
    const determinant = sumW * sumQQ - sumQ * sumQ;
    if (determinant <= 0) continue;
    const scale = (sumW * sumXQ - sumX * sumQ) / determinant;
    const offset = (sumQQ * sumX - sumQ * sumXQ) / determinant;
    const explained = scale * sumXQ + offset * sumX; // the squared error is the constant sum of w x^2 less this
    if (explained <= best) continue;
    best = explained;
    fit.scale = scale;
    fit.offset = offset;
  }
}

/** As fitAffine with the offset held at -8 * scale. The extreme value takes code 0, the wider side, so the scale may be negative. */
function fitSymmetric(x: Float64Array, weights: Float64Array, count: number, fit: Fit): void {
  let extreme = 0;
  for (let k = 0; k < count; k++) if (Math.abs(x[k]!) > Math.abs(extreme)) extreme = x[k]!;
  fit.scale = 0;
  fit.offset = 0;
  if (extreme === 0) return;
  let best = -Infinity;
  for (let candidate = 0; candidate <= CANDIDATES; candidate++) {
    const inverse = -(7 + 0.1 * candidate) / extreme;
    let sumQQ = 0;
    let sumXQ = 0;
    for (let k = 0; k < count; k++) {
      const q = Math.max(-8, Math.min(7, Math.round(inverse * x[k]!)));
      sumQQ += weights[k]! * q * q;
      sumXQ += weights[k]! * q * x[k]!;
    }
    const explained = (sumXQ * sumXQ) / sumQQ;
    if (explained <= best) continue;
    best = explained;
    fit.scale = sumXQ / sumQQ;
  }
}

/** Nearest codes under the scale and minimum as they are stored. */
function storeInt4(
  x: Float64Array,
  count: number,
  scale: number,
  minimum: number,
  data: Uint8Array,
  to: number,
): void {
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let k = 0; k < count; k++) {
    const code = Math.min(15, Math.max(0, Math.round((x[k]! - minimum) * inverse) + INT4_ZERO));
    const at = to + (k >> 1);
    data[at] = k % 2 === 0 ? (data[at]! & 0xf0) | code : (data[at]! & 0x0f) | (code << 4);
  }
}
