// The layout in which the native kernels read a quantized matrix (native/quantized-linear.c): panels of 32 rows, in each the blocks of
// 32 columns one behind the other, so that a product reads its weights in one stream. The minima are in it, exactly.

import { assert } from '../errors.js';
import { float16ToFloat32, float32ToFloat16 } from '../formats/float16.js';
import type { PackedMatrix } from './projection-group.js';

const PANEL = 32;
const BLOCK = 32;

/** A matrix of artifact.ts's formula, or several stacked: codes [rows, blocks, bytes a block], scales [rows, blocks], minima likewise. */
export interface QuantizedRows {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
  /** null: all zero. */
  readonly minima: Float32Array | null;
}

export interface NativeMatrix {
  readonly packed: Uint8Array;
  /** Whether scales and offsets are f16: where that loses nothing. */
  readonly half: boolean;
}

/** Whether the native kernels can read a matrix of this storage. */
export function fitsNative({ kind, blockSize, minimaBlockSize }: PackedMatrix): boolean {
  return kind !== 'f32' && blockSize === BLOCK && (minimaBlockSize ?? BLOCK) === BLOCK;
}

/** Whether a packed matrix of `numBytes` has f16 scales and offsets. */
export function nativeHalf({ kind, rows, cols }: PackedMatrix, numBytes: number): boolean {
  const numBlocks = Math.ceil(rows / PANEL) * Math.ceil(cols / BLOCK);
  return numBytes === numBlocks * blockSizes(kind === 'int4' ? 4 : 8, true).all;
}

/** Bytes of a panel's block. */
function blockSizes(bits: number, half: boolean): { readonly codes: number; readonly all: number } {
  const codes = (PANEL * BLOCK * bits) / 8;
  return { codes, all: codes + 2 * PANEL * (half ? 2 : 4) };
}

/** W = scale * code + offset with the unsigned code. */
export function nativeLayout({ kind, rows, cols }: PackedMatrix, matrix: QuantizedRows): NativeMatrix {
  const blocks = Math.ceil(cols / BLOCK);
  const bits = kind === 'int4' ? 4 : 8;
  const zero = bits === 4 ? 8 : 128;
  const { scales } = matrix;
  assert(scales.length === rows * blocks, `${scales.length} scales for ${rows} rows of ${blocks} blocks`);
  const offsets = scales.map((scale, i) => (matrix.minima?.[i] ?? 0) - zero * scale);
  const half = [scales, offsets].every(isExactInHalf);
  const { codes: codeBytes, all: blockBytes } = blockSizes(bits, half);
  const panels = Math.ceil(rows / PANEL);
  const packed = new Uint8Array(panels * blocks * blockBytes);
  const factors = half ? new Uint16Array(packed.buffer) : new Float32Array(packed.buffer);
  const encoded = half ? [float32ToFloat16(scales), float32ToFloat16(offsets)] : [scales, offsets];
  for (let row = 0; row < rows; row++) {
    const panelRow = row % PANEL;
    for (let block = 0; block < blocks; block++) {
      const at = (Math.floor(row / PANEL) * blocks + block) * blockBytes;
      const from = ((row * blocks + block) * BLOCK * bits) / 8;
      if (bits === 8) placeBytes(matrix.codes, from, packed, at + panelRow * 4);
      else placeNibbles(matrix.codes, from, packed, at + panelRow * 4);
      const factor = (at + codeBytes) / factors.BYTES_PER_ELEMENT + panelRow;
      factors[factor] = encoded[0]![row * blocks + block]!;
      factors[factor + PANEL] = encoded[1]![row * blocks + block]!;
    }
  }
  return { packed, half };
}

/** Columns in groups of four, PANEL rows of each group side by side. */
function placeBytes(codes: Uint8Array, from: number, packed: Uint8Array, at: number): void {
  for (let k = 0; k < BLOCK; k++) packed[at + (k >> 2) * PANEL * 4 + (k & 3)] = codes[from + k]!;
}

/** The same with two groups in a byte: columns [0, 4) of each eight in the low half, [4, 8) in the high one. */
function placeNibbles(codes: Uint8Array, from: number, packed: Uint8Array, at: number): void {
  for (let pair = 0; pair < BLOCK / 8; pair++) {
    for (let i = 0; i < 4; i++) {
      const shift = (i & 1) * 4;
      const low = (codes[from + pair * 4 + (i >> 1)]! >> shift) & 15;
      const high = (codes[from + pair * 4 + 2 + (i >> 1)]! >> shift) & 15;
      packed[at + pair * PANEL * 4 + i] = low | (high << 4);
    }
  }
}

function isExactInHalf(values: Float32Array): boolean {
  const back = float16ToFloat32(new Uint8Array(float32ToFloat16(values).buffer));
  return values.every((value, i) => value === back[i]);
}
