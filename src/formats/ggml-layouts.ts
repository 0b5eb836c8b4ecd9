// How GGML packs each quantized type (ggml-common.h, ggml-quants.c): a block is unpacked into one code a byte, in column order,
// and a scale (with, in some types, an offset) for each sub-block. What the codes then become is ggml-blocks.ts's business.

import { float16Value } from './float16.js';
import { type SupportedGgmlType } from './ggml-types.js';

export type QuantizedGgmlType = Exclude<SupportedGgmlType, 'F32' | 'F16' | 'BF16'>;

/** One block, unpacked: w[k] = scales[s] * codes[k] + offsets[s] (or scales[s] * (codes[k] - center)), s = floor(k / subBlock). */
export interface UnpackedBlock {
  /** [blockSize]. */
  readonly codes: Uint8Array;
  /** [blockSize / subBlock]. */
  readonly scales: Float64Array;
  /** The same, left alone by symmetric types. */
  readonly offsets: Float64Array;
}

export interface BlockLayout {
  /** Weights that share a scale. */
  readonly subBlock: 16 | 32;
  /** Half the codes' range: the code of zero in a symmetric type. */
  readonly center: 8 | 16 | 32 | 128;
  /** No offsets: w = scale * (code - center). */
  readonly symmetric: boolean;
  /** Unpacks the block at bytes[at]. */
  unpack(bytes: Uint8Array, at: number, out: UnpackedBlock): void;
}

export const LAYOUTS: Readonly<Record<QuantizedGgmlType, BlockLayout>> = {
  // d | 16 bytes: columns j (low nibble) and j + 16 (high).
  Q4_0: {
    subBlock: 32,
    center: 8,
    symmetric: true,
    unpack(bytes, at, { codes, scales }) {
      scales[0] = half(bytes, at);
      unpackNibbles(bytes, at + 2, 16, codes, 0);
    },
  },
  // d | m | nibbles as Q4_0; w = d * q + m.
  Q4_1: {
    subBlock: 32,
    center: 8,
    symmetric: false,
    unpack(bytes, at, { codes, scales, offsets }) {
      scales[0] = half(bytes, at);
      offsets[0] = half(bytes, at + 2);
      unpackNibbles(bytes, at + 4, 16, codes, 0);
    },
  },
  // d | u32 of fifth bits, bit k for column k | nibbles as Q4_0.
  Q5_0: {
    subBlock: 32,
    center: 16,
    symmetric: true,
    unpack(bytes, at, { codes, scales }) {
      scales[0] = half(bytes, at);
      unpackNibbles(bytes, at + 6, 16, codes, 0);
      addFifthBits(bytes, at + 2, codes);
    },
  },
  // d | m | fifth bits | nibbles.
  Q5_1: {
    subBlock: 32,
    center: 16,
    symmetric: false,
    unpack(bytes, at, { codes, scales, offsets }) {
      scales[0] = half(bytes, at);
      offsets[0] = half(bytes, at + 2);
      unpackNibbles(bytes, at + 8, 16, codes, 0);
      addFifthBits(bytes, at + 4, codes);
    },
  },
  // d | 32 signed bytes.
  Q8_0: {
    subBlock: 32,
    center: 128,
    symmetric: true,
    unpack(bytes, at, { codes, scales }) {
      scales[0] = half(bytes, at);
      for (let k = 0; k < 32; k++) codes[k] = bytes[at + 2 + k]! ^ 0x80; // two's complement + 128
    },
  },
  // d | dmin | 12 bytes of 6-bit scales and minima | 128 bytes: 4 x 32, columns 64i + l (low nibble) and 64i + 32 + l (high).
  Q4_K: {
    subBlock: 32,
    center: 8,
    symmetric: false,
    unpack(bytes, at, out) {
      unpackScalesK(bytes, at, out);
      for (let i = 0; i < 4; i++) unpackNibbles(bytes, at + 16 + 32 * i, 32, out.codes, 64 * i);
    },
  },
  // d | dmin | scales | 32 bytes of fifth bits: bit i of byte l for column 32i + l | nibbles as Q4_K.
  Q5_K: {
    subBlock: 32,
    center: 16,
    symmetric: false,
    unpack(bytes, at, out) {
      unpackScalesK(bytes, at, out);
      for (let i = 0; i < 4; i++) unpackNibbles(bytes, at + 48 + 32 * i, 32, out.codes, 64 * i);
      for (let k = 0; k < 256; k++) out.codes[k]! |= ((bytes[at + 16 + (k & 31)]! >> (k >> 5)) & 1) << 4;
    },
  },
  // 128 bytes of low nibbles | 64 bytes of upper two bits | 16 signed scales | d; in two halves of 128 columns.
  Q6_K: {
    subBlock: 16,
    center: 32,
    symmetric: true,
    unpack(bytes, at, { codes, scales }) {
      const d = half(bytes, at + 208);
      for (let s = 0; s < 16; s++) scales[s] = d * ((bytes[at + 192 + s]! << 24) >> 24);
      for (let h = 0; h < 2; h++) unpackSixBits(bytes, at + 64 * h, at + 128 + 32 * h, codes, 128 * h);
    },
  },
};

function half(bytes: Uint8Array, at: number): number {
  return float16Value(bytes[at]! | (bytes[at + 1]! << 8));
}

/** `count` bytes -> 2 * count codes: the low nibbles first, then the high ones. */
function unpackNibbles(bytes: Uint8Array, at: number, count: number, codes: Uint8Array, to: number): void {
  for (let j = 0; j < count; j++) {
    const byte = bytes[at + j]!;
    codes[to + j] = byte & 15;
    codes[to + count + j] = byte >> 4;
  }
}

function addFifthBits(bytes: Uint8Array, at: number, codes: Uint8Array): void {
  for (let k = 0; k < 32; k++) codes[k]! |= ((bytes[at + (k >> 3)]! >> (k & 7)) & 1) << 4;
}

/** 128 codes: quarter q takes low nibbles (q < 2) or high ones of ql[32 * (q & 1) + l], and bits 2q, 2q + 1 of qh[l]. */
function unpackSixBits(bytes: Uint8Array, ql: number, qh: number, codes: Uint8Array, to: number): void {
  for (let l = 0; l < 32; l++) {
    const upper = bytes[qh + l]!;
    const first = bytes[ql + l]!;
    const second = bytes[ql + 32 + l]!;
    codes[to + l] = (first & 15) | ((upper & 3) << 4);
    codes[to + 32 + l] = (second & 15) | (((upper >> 2) & 3) << 4);
    codes[to + 64 + l] = (first >> 4) | (((upper >> 4) & 3) << 4);
    codes[to + 96 + l] = (second >> 4) | ((upper >> 6) << 4);
  }
}

/**
 * d, dmin, and eight pairs of 6-bit (scale, minimum) in 12 bytes: pairs 0..3 in the low six bits of bytes 0..3 and 4..7;
 * pairs 4..7 with low nibbles in bytes 8..11 (scale low, minimum high) and upper bits in the top two of bytes 0..3 and 4..7.
 */
function unpackScalesK(bytes: Uint8Array, at: number, { scales, offsets }: UnpackedBlock): void {
  const d = half(bytes, at);
  const dmin = half(bytes, at + 2);
  for (let s = 0; s < 4; s++) {
    const scaleByte = bytes[at + 4 + s]!;
    const minimumByte = bytes[at + 8 + s]!;
    const nibbles = bytes[at + 12 + s]!;
    scales[s] = d * (scaleByte & 63);
    offsets[s] = -dmin * (minimumByte & 63);
    scales[s + 4] = d * ((nibbles & 15) | ((scaleByte >> 6) << 4));
    offsets[s + 4] = -dmin * ((nibbles >> 4) | ((minimumByte >> 6) << 4));
  }
}
