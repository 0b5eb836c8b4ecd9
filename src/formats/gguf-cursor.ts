// A forward cursor over a file's first bytes that reads them in growing windows, so that a header of unknown length
// costs a few reads and never the whole file. Every count is checked against what is left before anything is allocated.

import { isUtf8 } from 'node:buffer';
import { type ByteSource } from './byte-source.js';
import { invalidFile } from './invalid-file.js';

const FIRST_WINDOW = 64 * 1024;
const LARGEST_WINDOW = 16 * 1024 * 1024;
/** The largest header that is read: over ten times those with the largest vocabularies. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;

export class GgufCursor {
  readonly #source: ByteSource;
  readonly #end: number;
  #window: Buffer = Buffer.alloc(0);
  /** File offset of the window's first byte. */
  #windowStart = 0;
  #nextWindow = FIRST_WINDOW;
  /** Position inside the window. */
  #at = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#end = Math.min(source.size, MAX_HEADER_BYTES);
  }

  get offset(): number {
    return this.#windowStart + this.#at;
  }

  /** Bytes of `itemBytes` each that can still follow; refuses a count of items beyond them, before they are allocated. */
  checkCount(count: number, itemBytes: number, what: string): void {
    if (count <= (this.#end - this.offset) / itemBytes) return;
    throw this.refuse(
      `${count} ${what} do not fit in the bytes that follow; the file is damaged or cut short`,
    );
  }

  u8(): number {
    const at = this.#take(1);
    return this.#window.readUInt8(at);
  }
  i8(): number {
    const at = this.#take(1);
    return this.#window.readInt8(at);
  }
  u16(): number {
    const at = this.#take(2);
    return this.#window.readUInt16LE(at);
  }
  i16(): number {
    const at = this.#take(2);
    return this.#window.readInt16LE(at);
  }
  u32(): number {
    const at = this.#take(4);
    return this.#window.readUInt32LE(at);
  }
  i32(): number {
    const at = this.#take(4);
    return this.#window.readInt32LE(at);
  }
  f32(): number {
    const at = this.#take(4);
    return this.#window.readFloatLE(at);
  }
  f64(): number {
    const at = this.#take(8);
    return this.#window.readDoubleLE(at);
  }

  /** An unsigned 64-bit integer that a number holds exactly; refused beyond 2^53 - 1. */
  u64(): number {
    const at = this.#take(8);
    const value = this.#window.readUInt32LE(at + 4) * 2 ** 32 + this.#window.readUInt32LE(at);
    return this.#safe(value);
  }

  i64(): number {
    const at = this.#take(8);
    const value = this.#window.readInt32LE(at + 4) * 2 ** 32 + this.#window.readUInt32LE(at);
    return this.#safe(value);
  }

  bool(): boolean {
    const value = this.u8();
    if (value > 1) throw this.refuse(`Expected a boolean to be 0 or 1, got ${value}`);
    return value === 1;
  }

  /** u64 length, then UTF-8. */
  string(): string {
    const length = this.u64();
    const at = this.#take(length);
    const text = this.#window.toString('utf8', at, at + length);
    if (text.includes('\ufffd') && !isUtf8(this.#window.subarray(at, at + length)))
      throw this.refuse('a string is not valid UTF-8');
    return text;
  }

  /** A GatewayError that names the file and the place. */
  refuse(problem: string): Error {
    return invalidFile(this.#source.name, `at byte ${this.offset}: ${problem}`);
  }

  /** Makes the next bytes available and steps over them; their position in the window (which this may replace: read it after). */
  #take(length: number): number {
    if (this.#at + length > this.#window.length) this.#advance(length);
    const at = this.#at;
    this.#at += length;
    return at;
  }

  #advance(length: number): void {
    const start = this.offset;
    if (length > this.#end - start)
      throw this.refuse(
        `Expected ${length} more bytes of header, ${this.#end - start} are left; the file is damaged or cut short`,
      );
    const size = Math.min(Math.max(length, this.#nextWindow), this.#end - start);
    const bytes = this.#source.read(start, size);
    this.#window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#windowStart = start;
    this.#at = 0;
    this.#nextWindow = Math.min(2 * this.#nextWindow, LARGEST_WINDOW);
  }

  #safe(value: number): number {
    if (Number.isSafeInteger(value)) return value;
    throw this.refuse(`the 64-bit integer ${value} is beyond 2^53 - 1`);
  }
}
