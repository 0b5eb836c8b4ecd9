// The element types of safetensors: their sizes, and their conversion to f32. Little-endian hosts only, as all of Node's are in practice.

import { bfloat16ToFloat32, float16ToFloat32 } from './float16.js';

/** Bytes of an element. */
export const DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(DTYPE_BYTES, value);
}

/** The elements as a new array, or null for a dtype without a conversion. `bytes` need not be aligned. */
export function valuesToFloat32(dtype: Dtype, bytes: Uint8Array): Float32Array | null {
  switch (dtype) {
    case 'F32':
      return new Float32Array(alignedCopy(bytes));
    case 'F16':
      return float16ToFloat32(bytes);
    case 'BF16':
      return bfloat16ToFloat32(bytes);
    case 'F64':
      return new Float32Array(new Float64Array(alignedCopy(bytes)));
    case 'I64':
      return Float32Array.from(new BigInt64Array(alignedCopy(bytes)), Number);
    case 'U64':
      return Float32Array.from(new BigUint64Array(alignedCopy(bytes)), Number);
    case 'I32':
      return new Float32Array(new Int32Array(alignedCopy(bytes)));
    case 'U32':
      return new Float32Array(new Uint32Array(alignedCopy(bytes)));
    case 'I16':
      return new Float32Array(new Int16Array(alignedCopy(bytes)));
    case 'U16':
      return new Float32Array(new Uint16Array(alignedCopy(bytes)));
    case 'I8':
      return new Float32Array(new Int8Array(alignedCopy(bytes)));
    case 'U8':
    case 'BOOL':
      return new Float32Array(bytes);
    case 'F8_E4M3':
    case 'F8_E5M2':
      return null;
  }
}

function alignedCopy(bytes: Uint8Array): ArrayBuffer {
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  return copy.buffer;
}
