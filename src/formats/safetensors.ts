// Reader and writer of the safetensors format (https://github.com/huggingface/safetensors#format):
//   u64 N, little-endian | N bytes of JSON {name: {dtype, shape, data_offsets}, "__metadata__"?: {string: string}} | data.
// The header is checked once and whole; what it then says about offsets and lengths is trusted. Values are read on demand.

import { assert } from '../errors.js';
import { type ByteSource } from './byte-source.js';
import { invalidFile } from './invalid-file.js';
import { type Dtype, DTYPE_BYTES, isDtype, valuesToFloat32 } from './safetensors-dtype.js';
import { parseStrictJson } from './strict-json.js';

export interface SafetensorsTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Of the first byte, from the start of the file. */
  readonly offset: number;
  /** In bytes: the shape's product times the dtype's size. */
  readonly length: number;
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** As in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA_KEY = '__metadata__';

/**
 * Reads and checks the header: its length, its JSON, no key twice, known dtypes, shape and range agreeing, and ranges that cover
 * the data exactly, without holes or overlaps. Throws GatewayError invalid_file naming the file, the tensor and the values at odds.
 */
export function readSafetensorsHeader(source: ByteSource): SafetensorsHeader {
  const { text, dataStart } = headerText(source);
  const tensors = new Map<string, SafetensorsTensor>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, entry] of Object.entries(parseHeader(source.name, text))) {
    if (name === METADATA_KEY) metadata = checkMetadata(source.name, entry);
    else tensors.set(name, checkTensor(source.name, name, entry, dataStart));
  }
  checkCoverage(source, tensors, dataStart);
  return { tensors, metadata };
}

/**
 * The tensor's values in row-major order, as a new array; integers and f64 are rounded to f32.
 * Throws GatewayError invalid_file for a dtype without a conversion (the 8-bit floats).
 */
export function readTensorF32(source: ByteSource, tensor: SafetensorsTensor): Float32Array {
  const values = valuesToFloat32(tensor.dtype, source.read(tensor.offset, tensor.length));
  if (values === null)
    throw invalidFile(
      source.name,
      `a tensor has dtype ${tensor.dtype}, which is not supported; store it as F32, F16 or BF16`,
    );
  return values;
}

/** A file of f32 tensors, ordered by name, so that equal tensors make equal bytes. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const names = [...tensors.keys()].toSorted();
  const entries = names.map((name) => {
    const { shape, data } = tensors.get(name)!;
    const count = shape.reduce((product, dim) => product * dim, 1);
    assert(count === data.length, `${name}: shape [${shape.join(', ')}] does not hold ${data.length} values`);
    return { name, dtype: 'F32' as const, shape };
  });
  const header = safetensorsHeader(entries, metadata);
  const file = new Uint8Array(header.size);
  file.set(header.bytes);
  for (const [index, name] of names.entries()) {
    const { data } = tensors.get(name)!;
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), header.offsets[index]);
  }
  return file;
}

/**
 * The first bytes of a file whose tensors follow one another in the order of the entries: `offsets` says where each begins, `size`
 * is that of the whole file. Padded to a multiple of 8.
 */
export function safetensorsHeader(
  entries: readonly {
    readonly name: string;
    readonly dtype: Dtype;
    readonly shape: readonly number[];
  }[],
  metadata: Readonly<Record<string, string>>,
): { readonly bytes: Uint8Array; readonly offsets: readonly number[]; readonly size: number } {
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push([METADATA_KEY, metadata]);
  const dataOffsets: number[] = [];
  let end = 0;
  for (const { name, dtype, shape } of entries) {
    assert(name !== METADATA_KEY, `${METADATA_KEY} cannot name a tensor`);
    dataOffsets.push(end);
    const begin = end;
    end += shape.reduce((product, dim) => product * dim, DTYPE_BYTES[dtype]);
    header.push([name, { dtype, shape, data_offsets: [begin, end] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + headerBytes).fill(0x20, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(json, 8);
  return { bytes, offsets: dataOffsets.map((offset) => bytes.length + offset), size: bytes.length + end };
}

function headerText(source: ByteSource): { text: string; dataStart: number } {
  if (source.size < 8)
    throw invalidFile(source.name, `has ${source.size} bytes; a safetensors file has at least 8`);
  const prefix = source.read(0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES)
    throw invalidFile(
      source.name,
      `the header is said to have ${length} bytes, more than ${MAX_HEADER_BYTES}; this is no safetensors file, or it is damaged`,
    );
  const bytes = source.read(8, Number(length));
  if (bytes[0] !== 0x7b) throw invalidFile(source.name, 'the header does not begin with {');
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), dataStart: 8 + Number(length) };
  } catch (cause) {
    throw invalidFile(source.name, 'the header is not valid UTF-8', cause);
  }
}

function parseHeader(file: string, text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = parseStrictJson(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw invalidFile(file, `the header is not valid JSON: ${reason.slice(0, 200)}`, cause);
  }
  assert(isObject(header), 'JSON that begins with { is an object');
  return header;
}

function checkMetadata(file: string, entry: unknown): ReadonlyMap<string, string> {
  if (!isObject(entry)) throw invalidFile(file, `Expected ${METADATA_KEY} to be an object`);
  const metadata = new Map<string, string>();
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string')
      throw invalidFile(file, `Expected ${METADATA_KEY}.${key} to be a string, got ${typeof value}`);
    metadata.set(key, value);
  }
  return metadata;
}

function checkTensor(file: string, name: string, entry: unknown, dataStart: number): SafetensorsTensor {
  const refuse = (problem: string) => invalidFile(file, `tensor \`${name}\`: ${problem}`);
  if (!isObject(entry)) throw refuse('Expected an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: range } = entry;
  if (!isDtype(dtype))
    throw refuse(
      `Expected dtype to be one of ${Object.keys(DTYPE_BYTES).join(', ')}, got ${JSON.stringify(dtype)}`,
    );
  if (!isCountList(shape)) throw refuse(`Expected shape to be a list of sizes, got ${JSON.stringify(shape)}`);
  if (!isCountList(range) || range.length !== 2 || range[1]! < range[0]!)
    throw refuse(`Expected data_offsets to be [begin, end], got ${JSON.stringify(range)}`);
  const length = range[1]! - range[0]!;
  const expected = shape.reduce((product, dim) => product * dim, DTYPE_BYTES[dtype]);
  if (!Number.isSafeInteger(shape.reduce((product, dim) => product * Math.max(dim, 1), DTYPE_BYTES[dtype])))
    throw refuse(`shape [${shape.join(', ')}] is beyond what a file can hold`);
  if (expected !== length)
    throw refuse(`${dtype} of shape [${shape.join(', ')}] takes ${expected} bytes, its range has ${length}`);
  return { dtype, shape, offset: dataStart + range[0]!, length };
}

/** The ranges, in order, must follow one another from the data's first byte to the file's last. */
function checkCoverage(
  source: ByteSource,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  dataStart: number,
): void {
  let end = dataStart;
  const ordered = [...tensors].toSorted(([, a], [, b]) => a.offset - b.offset || a.length - b.length);
  for (const [name, { offset, length }] of ordered) {
    if (offset !== end)
      throw invalidFile(
        source.name,
        `tensor \`${name}\` begins at data offset ${offset - dataStart}, expected ${end - dataStart}: the data must have no holes or overlaps`,
      );
    end = offset + length;
  }
  if (end !== source.size)
    throw invalidFile(
      source.name,
      `the header describes ${end} bytes, the file has ${source.size}; it may be cut short`,
    );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item: unknown) => isCount(item));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
