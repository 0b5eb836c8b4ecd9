// Small valid GGUF, zip and tar.gz files made byte by byte, and the seeded randomness that damages them.

import { deflateRawSync, gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';

/** Mulberry32: the same numbers in [0, 1) for the same seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Little-endian bytes, appended field by field. */
export class Bytes {
  readonly #parts: Buffer[] = [];
  u8(value: number): this {
    return this.raw(Uint8Array.of(value));
  }
  u16(value: number): this {
    const part = Buffer.alloc(2);
    part.writeUInt16LE(value);
    return this.raw(part);
  }
  u32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    return this.raw(part);
  }
  u64(value: bigint | number): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    return this.raw(part);
  }
  f32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    return this.raw(part);
  }
  /** GGUF's string: length, then UTF-8. */
  text(value: string): this {
    const bytes = Buffer.from(value);
    return this.u64(bytes.length).raw(bytes);
  }
  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }
  /** Zeros up to a multiple. */
  pad(multiple: number): this {
    const { length } = this.done();
    return this.raw(new Uint8Array((multiple - (length % multiple)) % multiple));
  }
  done(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }
}

export interface GgufParts {
  readonly version?: number;
  /** Key, and type number with value bytes. */
  readonly pairs?: readonly (readonly [string, (bytes: Bytes) => Bytes])[];
  readonly tensors?: readonly {
    readonly name: string;
    /** Innermost first. */
    readonly ne: readonly (number | bigint)[];
    readonly type: number;
    readonly offset: number | bigint;
  }[];
  readonly data?: Uint8Array;
  readonly alignment?: number;
}

export function ggufFile({
  version = 3,
  pairs = [],
  tensors = [],
  data = new Uint8Array(0),
  alignment = 32,
}: GgufParts): Uint8Array {
  const bytes = new Bytes().raw(Buffer.from('GGUF')).u32(version).u64(tensors.length).u64(pairs.length);
  for (const [key, write] of pairs) write(bytes.text(key));
  for (const { name, ne, type, offset } of tensors) {
    bytes.text(name).u32(ne.length);
    for (const dim of ne) bytes.u64(dim);
    bytes.u32(type).u64(offset);
  }
  return bytes.pad(alignment).raw(data).done();
}

export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  readonly stored?: boolean;
  /** Unix mode, in the upper half of the external attributes. */
  readonly mode?: number;
  readonly flags?: number;
  readonly method?: number;
  /** Uncompressed size to declare in place of the true one. */
  readonly declaredSize?: number;
  readonly crc?: number;
}

/** A zip as any tool writes it, or one that lies where an entry says so. */
export function zipFile(entries: readonly ZipEntry[]): Uint8Array {
  const file = new Bytes();
  const directory = new Bytes();
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const body = entry.stored === true ? entry.data : deflateRawSync(entry.data);
    const offset = file.done().length;
    const common = new Bytes()
      .u16(20)
      .u16(entry.flags ?? 0x800)
      .u16(entry.method ?? (entry.stored === true ? 0 : 8))
      .u32(0)
      .u32(entry.crc ?? crcOf(entry.data))
      .u32(body.length)
      .u32(entry.declaredSize ?? entry.data.length)
      .u16(name.length)
      .u16(0)
      .done();
    file.u32(0x04034b50).raw(common).raw(name).raw(body);
    directory.u32(0x02014b50).u16(0x0314).raw(common).u16(0).u16(0).u16(0);
    directory
      .u32(((entry.mode ?? 0o100644) << 16) >>> 0)
      .u32(offset)
      .raw(name);
  }
  const start = file.done().length;
  const records = directory.done();
  file.raw(records).u32(0x06054b50).u16(0).u16(0).u16(entries.length).u16(entries.length);
  return file.u32(records.length).u32(start).u16(0).done();
}

/** CRC-32, from the trailer of a gzip frame. */
function crcOf(data: Uint8Array): number {
  return gzipSync(data).subarray(-8).readUInt32LE(0);
}

export interface TarEntry {
  readonly name: string;
  readonly data?: Uint8Array;
  readonly type?: 'file' | 'directory' | 'symlink' | 'link' | 'character-device' | 'fifo';
  readonly linkname?: string;
}

export async function tarFile(entries: readonly TarEntry[]): Promise<Uint8Array> {
  const packer = pack();
  for (const { data, ...header } of entries)
    packer.entry({ mtime: new Date(0), ...header }, Buffer.from(data ?? new Uint8Array(0)));
  packer.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of packer) if (chunk instanceof Uint8Array) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

export async function tarGzFile(entries: readonly TarEntry[]): Promise<Uint8Array> {
  return new Uint8Array(gzipSync(await tarFile(entries)));
}

/** One to four changed bytes, a cut end, or both. */
export function damaged(bytes: Uint8Array, random: () => number): Uint8Array {
  const pick = (count: number) => Math.floor(random() * count);
  const kind = pick(4);
  const copy = bytes.slice(0, kind === 0 || kind === 3 ? pick(bytes.length) : bytes.length);
  if (kind === 0 || copy.length === 0) return copy;
  for (let i = pick(4); i >= 0; i--) {
    const at = pick(copy.length);
    const extreme = [0, 1, 0x7f, 0x80, 0xff][pick(5)]!;
    copy[at] = random() < 0.5 ? copy[at]! ^ (1 << pick(8)) : extreme;
  }
  return copy;
}
