// What the archive readers share about chunks of bytes and about zlib's errors.

import { kMaxLength } from 'node:buffer';

/** The chunks as one new array of its own memory (not part of Node's pool, unlike many Buffers). */
export function collectBytes(chunks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** zlib's maxOutputLength for `room` bytes; it must be at least 1. */
export function outputBound(room: number): number {
  return Math.min(Math.max(room, 1), kMaxLength);
}

/** Whether zlib stopped because the output passed its bound. */
export function isTooLarge(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
}

export function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 300);
}
