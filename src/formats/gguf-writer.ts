// The header of a GGUF file, version 3, little-endian, as bytes; the tensors' data follow it at the offsets that it names.
// The inverse of gguf.ts. It writes no data, so that files larger than memory can be written a tensor at a time.

import { assert } from '../errors.js';
import { type GgmlType, GGML_TYPES, TYPE_BY_ID } from './ggml-types.js';

/** A metadata value with its type, which GGUF stores. */
export type GgufEntry =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s' | 'f32s'; readonly value: readonly number[] };

export interface GgufTensorEntry {
  readonly name: string;
  readonly type: GgmlType;
  /** Row-major, outermost first. */
  readonly shape: readonly number[];
}

export interface GgufHeader {
  /** Up to the first tensor's data: padded. */
  readonly bytes: Uint8Array;
  /** Of each tensor's first byte, from the start of the file, in the order of the entries; between them is padding. */
  readonly offsets: readonly number[];
  /** Of the whole file. */
  readonly size: number;
}

export const GGUF_ALIGNMENT = 32;

/** Numbers that GGUF gives the value types. */
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** Bytes of a tensor's data. Rows must be whole blocks of the type. */
export function ggufTensorBytes({ name, type, shape }: GgufTensorEntry): number {
  const { blockSize, blockBytes } = GGML_TYPES[type];
  assert(shape.at(-1)! % blockSize === 0, `${name}: rows of ${shape.at(-1)} are not whole blocks of ${type}`);
  return (shape.reduce((product, dim) => product * dim, 1) / blockSize) * blockBytes;
}

export function ggufHeader(
  metadata: Readonly<Record<string, GgufEntry>>,
  tensors: readonly GgufTensorEntry[],
): GgufHeader {
  const out = new ByteWriter();
  const pairs = Object.entries(metadata);
  out.raw(new TextEncoder().encode('GGUF'));
  out.u32(3);
  out.u64(tensors.length);
  out.u64(pairs.length);
  for (const [key, entry] of pairs) {
    out.string(key);
    writeValue(out, entry);
  }
  const lengths = tensors.map(ggufTensorBytes);
  const dataOffsets: number[] = [];
  let end = 0;
  for (const [index, { name, type, shape }] of tensors.entries()) {
    out.string(name);
    out.u32(shape.length);
    for (const dim of shape.toReversed()) out.u64(dim);
    out.u32(typeId(type));
    out.u64(end);
    dataOffsets.push(end);
    end = aligned(end + lengths[index]!);
  }
  const bytes = out.padded(GGUF_ALIGNMENT);
  return {
    bytes,
    offsets: dataOffsets.map((offset) => bytes.length + offset),
    size: bytes.length + end,
  };
}

function aligned(offset: number): number {
  return Math.ceil(offset / GGUF_ALIGNMENT) * GGUF_ALIGNMENT;
}

function typeId(type: GgmlType): number {
  for (const [id, name] of TYPE_BY_ID) if (name === type) return id;
  throw new Error(`${type} has no number`);
}

/** Type number, then the value; of arrays, the elements' type number, u64 count, elements. */
function writeValue(out: ByteWriter, entry: GgufEntry): void {
  switch (entry.type) {
    case 'string':
      out.u32(VALUE_TYPES.string);
      out.string(entry.value);
      return;
    case 'bool':
      out.u32(VALUE_TYPES.bool);
      out.raw(Uint8Array.of(entry.value ? 1 : 0));
      return;
    case 'u32':
      out.u32(VALUE_TYPES.u32);
      out.u32(entry.value);
      return;
    case 'f32':
      out.u32(VALUE_TYPES.f32);
      out.numbers(Float32Array.of(entry.value));
      return;
    case 'strings':
      out.array(VALUE_TYPES.string, entry.value.length);
      for (const item of entry.value) out.string(item);
      return;
    case 'i32s':
      out.array(VALUE_TYPES.i32, entry.value.length);
      out.numbers(Int32Array.from(entry.value));
      return;
    case 'f32s':
      out.array(VALUE_TYPES.f32, entry.value.length);
      out.numbers(Float32Array.from(entry.value));
  }
}

/** Bytes that grow. Little-endian hosts only, as all of Node's are in practice. */
class ByteWriter {
  #bytes = new Uint8Array(1 << 16);
  #end = 0;

  raw(bytes: Uint8Array): void {
    const needed = this.#end + bytes.length;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#end));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#end);
    this.#end = needed;
  }

  numbers(values: Uint32Array | Int32Array | Float32Array | BigUint64Array): void {
    this.raw(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  u32(value: number): void {
    this.numbers(Uint32Array.of(value));
  }

  u64(value: number): void {
    this.numbers(BigUint64Array.of(BigInt(value)));
  }

  /** u64 length, UTF-8. */
  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  array(elementType: number, count: number): void {
    this.u32(VALUE_TYPES.array);
    this.u32(elementType);
    this.u64(count);
  }

  /** All bytes, with zeros up to a multiple of `alignment`. */
  padded(alignment: number): Uint8Array {
    const padded = new Uint8Array(Math.ceil(this.#end / alignment) * alignment);
    padded.set(this.#bytes.subarray(0, this.#end));
    return padded;
  }
}
