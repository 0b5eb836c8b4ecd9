// Products of small matrices, and their reshaping into what the engine multiplies with: LoraDelta, with A and B transposed and the scale in B.

import type { LoraDelta } from './types.js';

/** Row-major [rows, cols]. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array | Float64Array;
}

/** left [out, rank] times right [rank, in], times scale; the engine's arrays are the transposes. */
export function lowRankDelta(left: Matrix, right: Matrix, scale: number): LoraDelta {
  return { rank: left.cols, a: transposed(right, 1), b: transposed(left, scale) };
}

/** A full delta [out, in] as a product with an identity on its shorter side: exact, of rank min(out, in). */
export function denseDelta(delta: Matrix, scale: number): LoraDelta {
  return delta.rows <= delta.cols
    ? lowRankDelta(identity(delta.rows), { ...delta, data: scaled(delta.data, scale) }, 1)
    : lowRankDelta(delta, identity(delta.cols), scale);
}

export function identity(size: number): Matrix {
  const data = new Float32Array(size * size);
  for (let at = 0; at < size; at++) data[at * size + at] = 1;
  return { rows: size, cols: size, data };
}

/** [m, k] times [k, n] in f64. */
export function product(left: Matrix, right: Matrix): Matrix {
  const data = new Float64Array(left.rows * right.cols);
  for (let row = 0; row < left.rows; row++)
    for (let inner = 0; inner < left.cols; inner++) {
      const factor = left.data[row * left.cols + inner]!;
      for (let col = 0; col < right.cols; col++)
        data[row * right.cols + col]! += factor * right.data[inner * right.cols + col]!;
    }
  return { rows: left.rows, cols: right.cols, data };
}

export function isZero(values: Float32Array): boolean {
  return values.every((value) => value === 0);
}

/** [cols, rows], times scale. */
export function transposed({ rows, cols, data }: Matrix, scale = 1): Float32Array {
  const result = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) result[col * rows + row] = data[row * cols + col]! * scale;
  return result;
}

function scaled(data: Float32Array | Float64Array, scale: number): Float64Array {
  return Float64Array.from(data, (value) => value * scale);
}
