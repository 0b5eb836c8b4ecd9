// The bytes of uploaded files on disk, each named by its sha256: <folder>/<hash>. A file appears whole or not at all, and is durable when
// put() returns. Who uses which hash is the caller's knowledge.

import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isRunning } from '../../adapters/store.js';
import { renameDurably } from '../../model/durable-files.js';

export interface StoredBytes {
  readonly hash: string;
  readonly sizeBytes: number;
  /** Lines that are not blank. */
  readonly numLines: number;
}

export interface FileBytes {
  put(content: AsyncIterable<Uint8Array>): Promise<StoredBytes>;
  pathOf(hash: string): string;
  discard(hash: string): Promise<void>;
  /** Removes what a crash left behind: temporary files of ended processes, and hashes that are not in use and older than `graceMs`. */
  sweep(isUsed: (hash: string) => boolean, graceMs: number, nowMs: number): Promise<void>;
}

const HASH = /^[0-9a-f]{64}$/;
/** `.tmp-<process id>-<unique>` */
const TEMPORARY = /^\.tmp-(\d+)-/;
const NEWLINE = 0x0a;

export async function openFileBytes(folder: string): Promise<FileBytes> {
  await mkdir(folder, { recursive: true });
  const pathOf = (hash: string) => join(folder, hash);

  async function put(content: AsyncIterable<Uint8Array>): Promise<StoredBytes> {
    const fresh = join(folder, `.tmp-${process.pid}-${randomUUID()}`);
    try {
      const stored = await write(fresh, content);
      await renameDurably(fresh, pathOf(stored.hash));
      return stored;
    } catch (error) {
      await rm(fresh, { force: true });
      throw error;
    }
  }

  async function sweep(isUsed: (hash: string) => boolean, graceMs: number, nowMs: number): Promise<void> {
    for (const name of await readdir(folder)) {
      const owner = TEMPORARY.exec(name)?.[1];
      if (owner === undefined && (!HASH.test(name) || isUsed(name))) continue;
      const isAbandoned = owner !== undefined && !isRunning(Number(owner));
      const ageMs = nowMs - (await stat(join(folder, name))).mtimeMs;
      if (isAbandoned || ageMs > graceMs) await rm(join(folder, name), { force: true });
    }
  }

  return { put, pathOf, discard: (hash) => rm(pathOf(hash), { force: true }), sweep };
}

async function write(path: string, content: AsyncIterable<Uint8Array>): Promise<StoredBytes> {
  const hash = createHash('sha256');
  const lines = createLineCount();
  let sizeBytes = 0;
  const file = await open(path, 'wx');
  try {
    for await (const bytes of content) {
      hash.update(bytes);
      lines.add(bytes);
      sizeBytes += bytes.length;
      await file.writeFile(bytes);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { hash: hash.digest('hex'), sizeBytes, numLines: lines.finish() };
}

function createLineCount(): { add(bytes: Uint8Array): void; finish(): number } {
  let numLines = 0;
  let isBlank = true;
  return {
    add(bytes) {
      for (const byte of bytes) {
        if (byte === NEWLINE) {
          if (!isBlank) numLines++;
          isBlank = true;
        } else if (byte > 0x20) isBlank = false;
      }
    },
    finish: () => numLines + (isBlank ? 0 : 1),
  };
}
