// A matrix of an artifact in memory, as it is stored, and its rows as f32: the plain reading of MatrixEntry's formula.

import type { MatrixEntry } from './artifact.js';

/** Bytes of a blob of weights.bin. */
export type ReadBlob = (blob: { readonly offset: number; readonly length: number }) => Uint8Array;

export interface StoredMatrix {
  readonly rows: number;
  readonly cols: number;
  /** Writes the cols values of a row to out[at ...]. `row` must be in [0, rows). */
  writeRow(row: number, out: Float32Array, at: number): void;
}

export function loadMatrix(entry: MatrixEntry, readBlob: ReadBlob): StoredMatrix {
  const { rows, cols, data } = entry;
  if (entry.kind !== 'f32') return loadQuantized(entry, readBlob);
  const values = toFloats(readBlob(data));
  return {
    rows,
    cols,
    writeRow: (row, out, at) => out.set(values.subarray(row * cols, (row + 1) * cols), at),
  };
}

/** The bytes as f32, without a copy. They must begin at a multiple of 4 of their buffer. */
export function toFloats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function loadQuantized(
  entry: MatrixEntry & { readonly kind: 'int4' | 'int8' },
  readBlob: ReadBlob,
): StoredMatrix {
  const { kind, rows, cols, blockSize } = entry;
  const codes = readBlob(entry.data);
  const scales = toFloats(readBlob(entry.scales));
  const minima = entry.minima === null ? null : toFloats(readBlob(entry.minima.data));
  const minimaBlockSize = entry.minima?.blockSize ?? blockSize;
  const blocks = Math.ceil(cols / blockSize);
  const minimaBlocks = Math.ceil(cols / minimaBlockSize);
  const step = Math.min(blockSize, minimaBlockSize);
  const rowCodes = blocks * blockSize;
  return {
    rows,
    cols,
    writeRow(row, out, at) {
      const from = row * rowCodes;
      const halfRow = from / 2;
      for (let start = 0; start < cols; start += step) {
        const scale = scales[row * blocks + Math.floor(start / blockSize)]!;
        const minimum =
          minima === null ? 0 : minima[row * minimaBlocks + Math.floor(start / minimaBlockSize)]!;
        const end = Math.min(start + step, cols);
        if (kind === 'int8')
          for (let k = start; k < end; k++) out[at + k] = scale * (codes[from + k]! - 128) + minimum;
        else
          for (let k = start; k < end; k += 2) {
            const pair = codes[halfRow + (k >> 1)]!;
            out[at + k] = scale * ((pair & 15) - 8) + minimum;
            if (k + 1 < end) out[at + k + 1] = scale * ((pair >> 4) - 8) + minimum;
          }
      }
    },
  };
}
