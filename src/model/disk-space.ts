// Room on the disk: asked before a download, and named when it runs out all the same.
import { statfs } from 'node:fs/promises';
import { GatewayError } from '../errors.js';

/** Left free for everything else on that disk. */
const RESERVE_BYTES = 64e6;

/** Throws download_failed when `folder` has no room for `bytes` more. */
export async function assertFreeSpace(folder: string, bytes: number, what: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes + RESERVE_BYTES) return;
  throw noRoom(folder, what, `needs ${megabytes(bytes + RESERVE_BYTES)}, ${megabytes(free)} are free`);
}

/** The caller's error for a write that failed for lack of room; null for any other failure. */
export function outOfSpace(error: unknown, folder: string, what: string): GatewayError | null {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : null;
  return code === 'ENOSPC' || code === 'EDQUOT' ? noRoom(folder, what, `wrote until nothing was free`) : null;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;
}

function noRoom(folder: string, what: string, how: string): GatewayError {
  return new GatewayError(
    'download_failed',
    `No room for ${what} in ${folder}: ${how}; free some space or choose another --data-dir`,
    { param: 'data-dir' },
  );
}
