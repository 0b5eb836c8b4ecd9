// Whole small GGUF models for tests: metadata of plain values, and tensors given by their row-major shape and bytes.

import { TYPE_BY_ID } from '../../src/formats/ggml-types.js';
import { type GgmlType, GGML_TYPES } from '../../src/formats/ggml-types.js';
import { Bytes, ggufFile } from './format-files.js';

export interface GgufTensorInput {
  readonly type: GgmlType;
  /** Row-major, outermost first. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

type MetadataValue = string | boolean | number | readonly string[] | { readonly f32: number };

/** Numbers are written as u32; {f32} as a float. */
export function writeGguf(
  metadata: Readonly<Record<string, MetadataValue>>,
  tensors: Readonly<Record<string, GgufTensorInput>>,
): Uint8Array {
  const data = new Bytes();
  let offset = 0;
  const entries = Object.entries(tensors).map(([name, { type, shape, bytes }]) => {
    const entry = { name, ne: shape.toReversed(), type: idOf(type), offset };
    data.raw(bytes).raw(new Uint8Array((32 - (bytes.length % 32)) % 32));
    offset += Math.ceil(bytes.length / 32) * 32;
    return entry;
  });
  const pairs = Object.entries(metadata).map(
    ([key, value]) => [key, (bytes: Bytes) => writeValue(bytes, value)] as const,
  );
  return ggufFile({ pairs, tensors: entries, data: data.done() });
}

export function f32Tensor(shape: readonly number[], values: Float32Array): GgufTensorInput {
  return { type: 'F32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** Bytes of the f16 fields of a block, which random bytes would make infinite or NaN. */
const F16_FIELDS: Readonly<Partial<Record<GgmlType, readonly number[]>>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

/** Random codes; scales and minima of either sign with magnitudes in [2^-10, 2^-8). */
export function randomTensor(
  type: GgmlType,
  shape: readonly number[],
  random: () => number,
): GgufTensorInput {
  const { blockSize, blockBytes } = GGML_TYPES[type];
  const numBlocks = shape.reduce((product, dim) => product * dim, 1) / blockSize;
  const bytes = Uint8Array.from({ length: numBlocks * blockBytes }, () => Math.floor(random() * 256));
  for (let block = 0; block < numBlocks; block++)
    for (const field of F16_FIELDS[type] ?? []) {
      const at = block * blockBytes + field + 1; // the upper byte: sign, exponent, two bits of the fraction
      bytes[at] = (bytes[at]! & 0x80) | (0x14 + (bytes[at]! & 7));
    }
  return { type, shape, bytes };
}

function idOf(type: GgmlType): number {
  for (const [id, name] of TYPE_BY_ID) if (name === type) return id;
  throw new Error(`${type} has no number`);
}

function writeValue(bytes: Bytes, value: MetadataValue): Bytes {
  if (typeof value === 'string') return bytes.u32(8).text(value);
  if (typeof value === 'boolean') return bytes.u32(7).u8(value ? 1 : 0);
  if (typeof value === 'number') return bytes.u32(4).u32(value);
  if ('f32' in value) return bytes.u32(6).f32(value.f32);
  bytes.u32(9).u32(8).u64(value.length);
  for (const item of value) bytes.text(item);
  return bytes;
}
