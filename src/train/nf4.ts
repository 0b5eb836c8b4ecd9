// 4-bit NormalFloat with double quantization (QLoRA, arXiv 2305.14314): blocks of 64 values, 16 levels, and the blocks' largest
// magnitudes quantized again (nf4-absmax.ts). 4 + 8/64 + 32/(64 * 256) = 4.127 bits a value. Bit-equal to bitsandbytes, whose layout
// com.microsoft.MatMulBnb4 reads too.

import { assert } from '../errors.js';
import { expandAbsmax, quantizeAbsmax, type QuantizedAbsmax } from './nf4-absmax.js';

export { expandAbsmax } from './nf4-absmax.js';

export interface Nf4Matrix extends QuantizedAbsmax {
  readonly shape: readonly number[];
  /** [ceil(n / 2)]: two codes a byte, that of the even value in the high nibble; row-major, blocks go across rows. */
  readonly codes: Uint8Array;
}

export const NF4_BLOCK_SIZE = 64;

/** Quantiles of the normal distribution on each side of an exact zero, scaled to [-1, 1] (the paper's appendix E). */
export const NF4_LEVELS: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];
const ZERO_CODE = 7;

/** Rounds each value to the nearest level times its block's largest magnitude. Every value must be finite. */
export function quantizeNf4(values: Float32Array, shape: readonly number[]): Nf4Matrix {
  const size = shape.reduce((product, dim) => product * dim, 1);
  assert(size === values.length, `${values.length} values are not [${shape.join(', ')}]`);
  const absmax = blockMagnitudes(values);
  return { shape, codes: nearestCodes(values, absmax), ...quantizeAbsmax(absmax) };
}

/** The values that the codes stand for, f32, row-major of the matrix's shape. */
export function dequantizeNf4(matrix: Nf4Matrix): Float32Array {
  const absmax = expandAbsmax(matrix);
  const levels = Float32Array.from(NF4_LEVELS);
  const values = new Float32Array(matrix.shape.reduce((product, dim) => product * dim, 1));
  for (let i = 0; i < values.length; i++) {
    const pair = matrix.codes[i >> 1]!;
    values[i] = levels[i % 2 === 0 ? pair >> 4 : pair & 15]! * absmax[Math.floor(i / NF4_BLOCK_SIZE)]!;
  }
  return values;
}

function blockMagnitudes(values: Float32Array): Float32Array {
  const absmax = new Float32Array(Math.ceil(values.length / NF4_BLOCK_SIZE));
  for (let block = 0; block < absmax.length; block++) {
    const start = block * NF4_BLOCK_SIZE;
    const end = Math.min(start + NF4_BLOCK_SIZE, values.length);
    let largest = 0;
    let sum = 0; // not finite as soon as one value is not: 64 f32 cannot overflow it
    for (let i = start; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      largest = magnitude > largest ? magnitude : largest;
      sum += magnitude;
    }
    assert(Number.isFinite(sum), `a value in [${start}, ${end}) is not finite, so it cannot be quantized`);
    absmax[block] = largest;
  }
  return absmax;
}

function nearestCodes(values: Float32Array, absmax: Float32Array): Uint8Array {
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  if (values.length % 2 === 1) codes[codes.length - 1] = ZERO_CODE;
  const midpoints = Float32Array.from(NF4_LEVELS.slice(1), (level, i) => (level + NF4_LEVELS[i]!) / 2);
  for (let block = 0; block < absmax.length; block++) {
    const start = block * NF4_BLOCK_SIZE;
    const end = Math.min(start + NF4_BLOCK_SIZE, values.length);
    const inverse = absmax[block]! > 0 ? Math.fround(1 / absmax[block]!) : 0;
    for (let i = start; i < end; i++) {
      const code = nearestCode(midpoints, Math.fround(values[i]! * inverse));
      codes[i >> 1]! |= i % 2 === 0 ? code << 4 : code;
    }
  }
  return codes;
}

/** Binary search without branches: each step settles one bit, so unpredictable values cost no mispredictions. */
function nearestCode(midpoints: Float32Array, x: number): number {
  let code = Number(x > midpoints[7]!) << 3;
  code |= Number(x > midpoints[code + 3]!) << 2;
  code |= Number(x > midpoints[code + 1]!) << 1;
  return code | Number(x > midpoints[code]!);
}
