// f32 values as the bytes of the types in which weights are exported: 32- and 16-bit floats and GGML's Q8_0. Rounding is to nearest.

import { float32ToFloat16 } from './float16.js';
import { SUPPORTED_TYPES } from './ggml-types.js';

export type WeightType = 'F32' | 'F16' | 'BF16' | 'Q8_0';

/** Bytes of `count` values; of Q8_0 `count` must be whole blocks. */
export function encodedBytes(type: WeightType, count: number): number {
  const { blockSize, blockBytes } = SUPPORTED_TYPES[type];
  return (count / blockSize) * blockBytes;
}

/** New bytes, or a view of `values` for F32. */
export function encodeFloats(type: WeightType, values: Float32Array): Uint8Array {
  switch (type) {
    case 'F32':
      return bytesOf(values);
    case 'F16':
      return bytesOf(float32ToFloat16(values));
    case 'BF16':
      return bytesOf(float32ToBfloat16(values));
    case 'Q8_0':
      return quantizeQ8_0(values);
  }
}

/** The first value that the type cannot hold (it would become infinite), or -1. */
export function firstBeyond(type: WeightType, values: Float32Array): number {
  const limit = LARGEST[type];
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) < limit)) return i;
  return -1;
}

/** Magnitudes from here on round to infinity; of Q8_0, whose scale is an f16, 127 times as much. */
const LARGEST: Readonly<Record<WeightType, number>> = {
  F32: Infinity,
  F16: 65_520,
  BF16: 2 ** 128 - 2 ** 119,
  Q8_0: 65_520 * 127,
};

/** n values -> n bfloat16 bit patterns, ties to even; NaN stays NaN. */
function float32ToBfloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    out[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** As ggml's reference: scale = largest magnitude / 127 (stored as f16), codes by the scale before it is rounded, halves away from zero. */
function quantizeQ8_0(values: Float32Array): Uint8Array {
  const { blockSize, blockBytes } = SUPPORTED_TYPES.Q8_0;
  const out = new Uint8Array((values.length / blockSize) * blockBytes);
  const view = new DataView(out.buffer);
  const scales = new Float32Array(values.length / blockSize);
  for (let block = 0; block < scales.length; block++) {
    let largest = 0;
    for (let k = block * blockSize; k < (block + 1) * blockSize; k++)
      largest = Math.max(largest, Math.abs(values[k]!));
    scales[block] = largest / 127;
  }
  const halves = float32ToFloat16(scales);
  for (let block = 0; block < scales.length; block++) {
    const inverse = scales[block] === 0 ? 0 : Math.fround(1 / scales[block]!);
    const at = block * blockBytes;
    view.setUint16(at, halves[block]!, true);
    for (let k = 0; k < blockSize; k++) {
      const scaled = Math.fround(values[block * blockSize + k]! * inverse);
      view.setInt8(at + 2 + k, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    }
  }
  return out;
}

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
