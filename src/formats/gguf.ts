// Reader of GGUF, versions 2 and 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):
//   "GGUF" | u32 version | u64 tensors | u64 pairs | pairs (key, type, value) | tensor entries | padding | data.
// It reads the header, checks it whole, and says where each tensor's bytes are; ggml-blocks.ts says what they mean.

import { GatewayError } from '../errors.js';
import { type ByteSource } from './byte-source.js';
import {
  type GgmlType,
  GGML_TYPES,
  isSupportedType,
  type SupportedGgmlType,
  SUPPORTED_TYPES,
  TYPE_BY_ID,
} from './ggml-types.js';
import { GgufCursor } from './gguf-cursor.js';
import { type GgufValue, readGgufValue } from './gguf-values.js';
import { invalidFile } from './invalid-file.js';

export type { GgufValue } from './gguf-values.js';
export type { GgmlType, SupportedGgmlType } from './ggml-types.js';

export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** Row-major, outermost first ([rows, cols] of a matrix): GGUF's `ne` reversed. */
  readonly shape: readonly number[];
  /** Of the first byte, from the start of the file. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
}

export interface GgufFile {
  readonly version: 2 | 3;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** A tensor entry before its place in the file is known. */
interface TensorEntry extends Omit<GgufTensor, 'offset'> {
  /** From the start of the data. */
  readonly dataOffset: number;
}

const MAGIC = 0x46554747;
const DEFAULT_ALIGNMENT = 32;
const MAX_DIMENSIONS = 4;
/** Key length and type at least, and a value of one byte. */
const MIN_PAIR_BYTES = 13;
/** Name length, number of dimensions, type, offset. */
const MIN_TENSOR_BYTES = 24;

/**
 * Reads and checks the header: bounded counts, no key or tensor twice, aligned ranges inside the file that do not overlap.
 * Throws GatewayError invalid_file naming the file and the place.
 */
export function readGguf(source: ByteSource): GgufFile {
  const cursor = new GgufCursor(source);
  const version = readVersion(cursor);
  const numTensors = cursor.u64();
  const numPairs = cursor.u64();
  cursor.checkCount(numPairs, MIN_PAIR_BYTES, 'metadata pairs');
  const metadata = readMetadata(cursor, numPairs);
  const alignment = alignmentOf(cursor, metadata);
  cursor.checkCount(numTensors, MIN_TENSOR_BYTES, 'tensors');
  const entries = readEntries(cursor, numTensors, alignment);
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  return { version, metadata, tensors: placeTensors(source, entries, dataStart) };
}

/**
 * The tensor's bytes, its type known to be one that ggml-blocks.ts reads.
 * Throws GatewayError unsupported_model naming the type and the supported ones.
 */
export function readGgufTensor(
  source: ByteSource,
  tensor: GgufTensor,
): { readonly type: SupportedGgmlType; readonly bytes: Uint8Array } {
  const { name, type } = tensor;
  if (!isSupportedType(type))
    throw new GatewayError(
      'unsupported_model',
      `${source.name}: tensor \`${name}\` has type ${type}; supported are ${Object.keys(SUPPORTED_TYPES).join(', ')}. Take a file quantized with one of these`,
      { param: source.name },
    );
  return { type, bytes: source.read(tensor.offset, tensor.length) };
}

function readVersion(cursor: GgufCursor): 2 | 3 {
  if (cursor.u32() !== MAGIC) throw cursor.refuse('the file does not begin with GGUF: it is no GGUF file');
  const version = cursor.u32();
  if (version === 2 || version === 3) return version;
  if (version >= 2 ** 24) throw cursor.refuse('the file is big-endian, which is not supported');
  throw cursor.refuse(`GGUF version ${version} is not supported; supported are 2 and 3`);
}

function readMetadata(cursor: GgufCursor, numPairs: number): ReadonlyMap<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < numPairs; i++) {
    const key = cursor.string();
    if (metadata.has(key)) throw cursor.refuse(`the metadata key \`${key}\` is there twice`);
    metadata.set(key, readGgufValue(cursor));
  }
  return metadata;
}

function alignmentOf(cursor: GgufCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  const isPowerOfTwo = typeof alignment === 'number' && Number.isInteger(Math.log2(alignment));
  if (isPowerOfTwo && alignment >= 1 && alignment <= 65536) return alignment;
  throw cursor.refuse(
    `Expected general.alignment to be a power of two up to 65536, got ${String(alignment).slice(0, 40)}`,
  );
}

function readEntries(cursor: GgufCursor, numTensors: number, alignment: number): Map<string, TensorEntry> {
  const entries = new Map<string, TensorEntry>();
  for (let i = 0; i < numTensors; i++) {
    const entry = readEntry(cursor);
    const refuse = (problem: string) => cursor.refuse(`tensor \`${entry.name}\` ${problem}`);
    if (entries.has(entry.name)) throw refuse('is there twice');
    if (entry.dataOffset % alignment !== 0)
      throw refuse(`begins at data offset ${entry.dataOffset}, which is no multiple of ${alignment}`);
    entries.set(entry.name, entry);
  }
  return entries;
}

/** Name, u32 number of dimensions, u64 each (innermost first), u32 type, u64 offset. */
function readEntry(cursor: GgufCursor): TensorEntry {
  const name = cursor.string();
  const refuse = (problem: string) => cursor.refuse(`tensor \`${name}\` ${problem}`);
  const numDimensions = cursor.u32();
  if (numDimensions > MAX_DIMENSIONS)
    throw refuse(`has ${numDimensions} dimensions, more than ${MAX_DIMENSIONS}`);
  const ne = Array.from({ length: numDimensions }, () => cursor.u64());
  const typeId = cursor.u32();
  const type = TYPE_BY_ID.get(typeId);
  if (type === undefined) throw refuse(`has the unknown type number ${typeId}`);
  const { blockSize, blockBytes } = GGML_TYPES[type];
  const count = ne.reduce((product, dim) => product * dim, 1);
  if (count === 0 || !Number.isSafeInteger(count * blockBytes))
    throw refuse(`has the impossible shape [${ne.toReversed().join(', ')}]`);
  if ((ne[0] ?? 1) % blockSize !== 0)
    throw refuse(`is ${type} in rows of ${ne[0] ?? 1}, which is no multiple of its block of ${blockSize}`);
  const length = (count / blockSize) * blockBytes;
  return { name, type, shape: ne.toReversed(), length, dataOffset: cursor.u64() };
}

/** Absolute offsets; the ranges lie inside the file and do not overlap. */
function placeTensors(
  source: ByteSource,
  entries: ReadonlyMap<string, TensorEntry>,
  dataStart: number,
): ReadonlyMap<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const { name, type, shape, length, dataOffset } of entries.values())
    tensors.set(name, { name, type, shape, length, offset: dataStart + dataOffset });
  let end = dataStart;
  for (const { name, offset, length } of [...tensors.values()].toSorted((a, b) => a.offset - b.offset)) {
    if (offset < end) throw invalidFile(source.name, `tensor \`${name}\` overlaps the one before it`);
    end = offset + length;
    if (end > source.size)
      throw invalidFile(
        source.name,
        `tensor \`${name}\` ends at byte ${end}, the file has ${source.size}; it is cut short, fetch it again`,
      );
  }
  return tensors;
}
