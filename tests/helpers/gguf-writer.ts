// Whole small GGUF models for tests: metadata of plain values, and tensors given by their row-major shape and bytes.

import { type GgmlType, GGML_TYPES } from '../../src/formats/ggml-types.js';
import { type GgufEntry, ggufHeader } from '../../src/formats/gguf-writer.js';

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
  const entries = Object.entries(metadata).map(([key, value]) => [key, entryOf(value)] as const);
  const named = Object.entries(tensors).map(([name, tensor]) => ({ name, ...tensor }));
  const header = ggufHeader(Object.fromEntries(entries), named);
  const file = new Uint8Array(header.size);
  file.set(header.bytes);
  for (const [index, { bytes }] of named.entries()) file.set(bytes, header.offsets[index]);
  return file;
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

function entryOf(value: MetadataValue): GgufEntry {
  if (typeof value === 'string') return { type: 'string', value };
  if (typeof value === 'boolean') return { type: 'bool', value };
  if (typeof value === 'number') return { type: 'u32', value };
  return 'f32' in value ? { type: 'f32', value: value.f32 } : { type: 'strings', value };
}
