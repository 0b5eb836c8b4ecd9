// Lengths of the rows of a base's matrix with a low-rank update on it, without ever holding that sum whole. Two forms: plain, and with
// SIMD (more than ten times as fast), which computes in f32 and differs by rounding alone.

import { assert } from '../errors.js';
import type { StoredMatrix } from '../model/stored-matrix.js';
import type { Matrix } from './low-rank.js';
import type { Pacer } from './pacer.js';
import { BLOCK_COLS, BLOCK_ROWS, openRowLengthKernel, type RowLengthKernel } from './row-length-kernel.js';

/** The lengths [out] of the rows of weight [out, in] + scale * left [out, r] right [r, in]. */
export type RowLengths = (
  weight: StoredMatrix,
  left: Matrix,
  right: Matrix,
  scale: number,
  pacer: Pacer,
) => Promise<Float64Array>;

/** The faster of the forms that the machine can run. The result takes one matrix at a time. */
export function createRowLengths(): RowLengths {
  const kernel = openRowLengthKernel();
  return kernel === null ? plainRowLengths : simdRowLengths(kernel);
}

/** In f64 throughout. */
export const plainRowLengths: RowLengths = async (weight, left, right, scale, pacer) => {
  const { rows, cols } = weight;
  const row = new Float32Array(cols);
  const lengths = new Float64Array(rows);
  for (let out = 0; out < rows; out++) {
    weight.writeRow(out, row, 0);
    const sum = Float64Array.from(row);
    for (let rank = 0; rank < right.rows; rank++) {
      const factor = scale * left.data[out * left.cols + rank]!;
      for (let col = 0; col < cols; col++) sum[col]! += factor * right.data[rank * cols + col]!;
    }
    lengths[out] = Math.sqrt(sum.reduce((total, value) => total + value * value, 0));
    await pacer.spent(cols * (1 + right.rows));
  }
  return lengths;
};

/** Rows between two chances for the event loop. */
const STRIP_ROWS = 16;

export function simdRowLengths(kernel: RowLengthKernel): RowLengths {
  let isBusy = false;
  return async (weight, left, right, scale, pacer) => {
    assert(!isBusy, 'the memory of the kernel holds one matrix at a time');
    isBusy = true;
    try {
      const panels = layPanels(kernel, weight.cols, right.rows);
      packRight(panels, right);
      const lengths = new Float64Array(weight.rows);
      for (let start = 0; start < weight.rows; start += STRIP_ROWS) {
        const end = Math.min(start + STRIP_ROWS, weight.rows);
        packLeft(panels, left, scale, start, end);
        for (let row = start; row < end; row++)
          weight.writeRow(row, panels.w, (row - start) * panels.rowFloats);
        panels.run(end - start);
        for (let row = start; row < end; row++) lengths[row] = Math.sqrt(panels.out[row - start]!);
        await pacer.spent(((end - start) * weight.cols * (16 + right.rows)) / 64);
      }
      return lengths;
    } finally {
      isBusy = false;
    }
  };
}

/** Views of the kernel's memory: the four parts of a run, one after the other. */
interface Panels {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly w: Float32Array;
  readonly out: Float64Array;
  /** Of a row of w: the columns, rounded up; what is beyond them is 0. */
  readonly rowFloats: number;
  run(numRows: number): void;
}

function layPanels(kernel: RowLengthKernel, cols: number, rank: number): Panels {
  const { memory } = kernel;
  const colBlocks = Math.ceil(cols / BLOCK_COLS);
  const rowFloats = colBlocks * BLOCK_COLS;
  const atA = 8 * STRIP_ROWS;
  const atB = atA + 4 * rank * rowFloats;
  const atW = atB + 4 * rank * STRIP_ROWS;
  const end = atW + 4 * rowFloats * STRIP_ROWS;
  const missing = end - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / 65_536));
  new Uint8Array(memory.buffer, 0, end).fill(0);
  return {
    out: new Float64Array(memory.buffer, 0, STRIP_ROWS),
    a: new Float32Array(memory.buffer, atA, rank * rowFloats),
    b: new Float32Array(memory.buffer, atB, rank * STRIP_ROWS),
    w: new Float32Array(memory.buffer, atW, rowFloats * STRIP_ROWS),
    rowFloats,
    run: (numRows) =>
      kernel.run(atA, atB, atW, 0, colBlocks, rank, 4 * rowFloats, Math.ceil(numRows / BLOCK_ROWS)),
  };
}

/** [r, in] -> [in / 8, r, 8] */
function packRight({ a }: Panels, { rows, cols, data }: Matrix): void {
  for (let rank = 0; rank < rows; rank++)
    for (let col = 0; col < cols; col++) {
      const inner = col % BLOCK_COLS;
      a[(col - inner) * rows + rank * BLOCK_COLS + inner] = data[rank * cols + col]!;
    }
}

/** Rows [start, end) of [out, r], scaled -> [rows / 4, r, 4]. Rows beyond are left as they are: nobody reads their lengths. */
function packLeft({ b }: Panels, { cols, data }: Matrix, scale: number, start: number, end: number): void {
  for (let row = start; row < end; row++) {
    const inner = (row - start) % BLOCK_ROWS;
    const first = (row - start - inner) * cols + inner;
    for (let rank = 0; rank < cols; rank++) b[first + rank * BLOCK_ROWS] = scale * data[row * cols + rank]!;
  }
}
