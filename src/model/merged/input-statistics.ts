// How the inputs of a matrix vary together: the sum of x xᵀ over probe tokens, which is the Hessian of the squared error of W x.
// Kept for spans of neighbouring columns alone, so that cost and memory grow with the width, not with its square or cube.

import { assert } from '../../errors.js';

/** Columns whose rounding errors are made up for in each other; a multiple of the quantization's block. */
export const SPAN = 128;
/** Share of the mean diagonal that is added to it (GPTQ's dampening). */
const DAMPENING = 0.01;

/** Upper triangular U with Uᵀ U = H⁻¹, row-major [size, size], of columns [start, start + size). */
export interface SpanFactor {
  readonly start: number;
  readonly size: number;
  readonly upper: Float64Array;
}

export class InputStatistics {
  readonly cols: number;
  readonly #spans: readonly { readonly start: number; readonly size: number; readonly sums: Float64Array }[];

  constructor(cols: number) {
    this.cols = cols;
    this.#spans = Array.from({ length: Math.ceil(cols / SPAN) }, (_, i) => {
      const size = Math.min(SPAN, cols - i * SPAN);
      return { start: i * SPAN, size, sums: new Float64Array(size * size) };
    });
  }

  /** x is [tokens, cols]. */
  add(x: Float32Array): void {
    assert(x.length % this.cols === 0, `${x.length} inputs are not rows of ${this.cols}`);
    for (let row = 0; row < x.length; row += this.cols)
      for (const { start, size, sums } of this.#spans)
        for (let i = 0; i < size; i++) {
          const value = x[row + start + i]!;
          if (value === 0) continue;
          for (let j = 0, at = i * size; j <= i; j++) sums[at + j]! += value * x[row + start + j]!;
        }
  }

  factors(): readonly SpanFactor[] {
    return this.#spans.map(({ start, size, sums }) => ({ start, size, upper: inverseFactor(sums, size) }));
  }
}

/** `sums` holds the lower triangle of H. */
function inverseFactor(sums: Float64Array, size: number): Float64Array {
  const hessian = sums.slice();
  let trace = 0;
  for (let i = 0; i < size; i++) trace += hessian[i * size + i]!;
  const added = trace > 0 ? (DAMPENING * trace) / size : 1;
  for (let i = 0; i < size; i++) hessian[i * size + i]! += added;
  // H = R Rᵀ with an upper R, so H⁻¹ = R⁻ᵀ R⁻¹ and U = R⁻¹.
  return invertUpper(upperCholesky(hessian, size), size);
}

/** Upper R with R Rᵀ = H. */
function upperCholesky(lower: Float64Array, size: number): Float64Array {
  const r = new Float64Array(size * size);
  for (let j = size - 1; j >= 0; j--) {
    let diagonal = lower[j * size + j]!;
    for (let k = j + 1; k < size; k++) diagonal -= r[j * size + k]! ** 2;
    r[j * size + j] = Math.sqrt(diagonal);
    for (let i = 0; i < j; i++) {
      let sum = lower[j * size + i]!;
      for (let k = j + 1; k < size; k++) sum -= r[i * size + k]! * r[j * size + k]!;
      r[i * size + j] = sum / r[j * size + j]!;
    }
  }
  return r;
}

function invertUpper(r: Float64Array, size: number): Float64Array {
  const inverse = new Float64Array(size * size);
  for (let j = 0; j < size; j++) {
    inverse[j * size + j] = 1 / r[j * size + j]!;
    for (let i = j - 1; i >= 0; i--) {
      let sum = 0;
      for (let k = i + 1; k <= j; k++) sum += r[i * size + k]! * inverse[k * size + j]!;
      inverse[i * size + j] = -sum / r[i * size + i]!;
    }
  }
  return inverse;
}
