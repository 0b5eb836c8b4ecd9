// Random access to a file's bytes, so that readers need not hold a whole file in memory.
// Only the in-memory source lives here: this folder does no I/O. Whoever opens files implements ByteSource over a descriptor.

import { invalidFile } from './invalid-file.js';

export interface ByteSource {
  /** The file's name, for error messages. */
  readonly name: string;
  /** Number of bytes. */
  readonly size: number;
  /**
   * Bytes [offset, offset + length). They may share memory with the source: read-only.
   * Throws GatewayError invalid_file where the range is not wholly inside the file (see checkRange).
   */
  read(offset: number, length: number): Uint8Array;
}

/** A source over bytes in memory; read() returns views, not copies. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    read(offset, length) {
      checkRange(this, offset, length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** Refuses a range [offset, offset + length) that is not wholly inside the source. */
export function checkRange(
  source: { readonly name: string; readonly size: number },
  offset: number,
  length: number,
): void {
  const legal = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (legal && length <= source.size - offset) return;
  throw invalidFile(
    source.name,
    `Expected ${length} bytes at offset ${offset}, but the file has ${source.size} bytes; it may be cut short, fetch it again`,
  );
}
