// A file or folder that appears under its name whole or not at all: it is made under a temporary name beside it and renamed.

import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { GatewayError } from '../errors.js';
import { megabytes } from './disk-space.js';
import { renameDurably } from './durable-files.js';

/**
 * `make` is given the temporary path and leaves everything there synced. What it leaves when it throws is removed.
 * Throws GatewayError invalid_value where the path exists already, or where its disk has no room for `bytes`.
 */
export async function makeNewPath(
  path: string,
  bytes: number,
  make: (temporary: string) => Promise<void>,
): Promise<void> {
  const target = resolve(path);
  refuseExisting(target);
  mkdirSync(dirname(target), { recursive: true });
  const { bavail, bsize } = statfsSync(dirname(target));
  if (bavail * bsize < bytes)
    throw outError(
      target,
      `No room for ${target}: it takes ${megabytes(bytes)}, ${megabytes(bavail * bsize)} are free; name a place on another disk`,
    );
  const temporary = `${target}.partial-${randomUUID()}`;
  try {
    await make(temporary);
    refuseExisting(target);
    await renameDurably(temporary, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function refuseExisting(path: string): void {
  if (existsSync(path)) throw outError(path, `${path} exists already; remove it or name another place`);
}

function outError(path: string, message: string): GatewayError {
  return new GatewayError('invalid_value', message, { param: path });
}
