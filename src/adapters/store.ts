// Adapter files on disk, a folder for each content hash: <folder>/<hash>/adapter_config.json and adapter_model.safetensors, as uploaded.
// A folder appears whole or not at all, and is durable when put() returns. Which hashes are in use is the caller's knowledge.

import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurably, syncFolder } from '../model/durable-files.js';
import { type AdapterFiles, CONFIG_FILE, WEIGHTS_FILE } from './adapter-files.js';
import { hasErrorCode } from './error-code.js';

export interface AdapterStore {
  /** Durable on return. Replaces what is stored under the hash where its bytes differ (it was damaged). */
  put(hash: string, files: AdapterFiles): Promise<void>;
  /** File name -> bytes, or null where the hash is not stored. */
  read(hash: string): Promise<ReadonlyMap<string, Uint8Array> | null>;
  discard(hash: string): Promise<void>;
  /**
   * Removes what a crash left behind: temporary folders, and hashes that are not in use. What is younger than `graceMs` stays, unless it
   * is the temporary folder of an ended process: somebody else on the same disk may be about to register it. Returns the names removed.
   */
  sweep(isUsed: (hash: string) => boolean, graceMs: number, nowMs: number): Promise<readonly string[]>;
}

const HASH = /^[0-9a-f]{64}$/;
/** `.tmp-<process id>-<unique>` */
const TEMPORARY = /^\.tmp-(\d+)-/;

export async function openStore(folder: string): Promise<AdapterStore> {
  await mkdir(folder, { recursive: true });
  const pathOf = (hash: string) => join(folder, hash);
  const temporary = () => join(folder, `.tmp-${process.pid}-${randomUUID()}`);

  async function read(hash: string): Promise<ReadonlyMap<string, Uint8Array> | null> {
    try {
      const [config, weights] = await Promise.all(
        [CONFIG_FILE, WEIGHTS_FILE].map((name) => readFile(join(pathOf(hash), name))),
      );
      return new Map([
        [CONFIG_FILE, config!],
        [WEIGHTS_FILE, weights!],
      ]);
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT')) return null;
      throw error;
    }
  }

  async function put(hash: string, files: AdapterFiles): Promise<void> {
    const fresh = temporary();
    try {
      // Written even where the same is stored: how long an upload takes must not tell whether somebody else has it.
      await mkdir(fresh);
      await writeFile(join(fresh, CONFIG_FILE), files.config);
      await writeFile(join(fresh, WEIGHTS_FILE), files.weights);
      await syncFolder(fresh);
      const stored = await read(hash);
      if (stored !== null && isSame(stored, files)) return await rm(fresh, { recursive: true });
      await discard(hash);
      await renameDurably(fresh, pathOf(hash));
    } catch (error) {
      await rm(fresh, { recursive: true, force: true });
      throw error;
    }
  }

  /** Renamed first, so that no reader finds half of it. */
  async function discard(hash: string): Promise<void> {
    const doomed = temporary();
    try {
      await rename(pathOf(hash), doomed);
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT')) return;
      throw error;
    }
    await rm(doomed, { recursive: true, force: true });
  }

  async function sweep(
    isUsed: (hash: string) => boolean,
    graceMs: number,
    nowMs: number,
  ): Promise<readonly string[]> {
    const removed: string[] = [];
    for (const name of await readdir(folder)) {
      const owner = TEMPORARY.exec(name)?.[1];
      if (owner === undefined && (!HASH.test(name) || isUsed(name))) continue;
      const isAbandoned = owner !== undefined && !isRunning(Number(owner));
      const isGarbage = isAbandoned || (await ageMs(pathOf(name), nowMs)) > graceMs;
      if (!isGarbage) continue;
      await rm(pathOf(name), { recursive: true, force: true });
      removed.push(name);
    }
    return removed.toSorted();
  }

  return { put, read, discard, sweep };
}

function isSame(stored: ReadonlyMap<string, Uint8Array>, files: AdapterFiles): boolean {
  const equal = (name: string, bytes: Uint8Array) => Buffer.compare(stored.get(name)!, bytes) === 0;
  return equal(CONFIG_FILE, files.config) && equal(WEIGHTS_FILE, files.weights);
}

async function ageMs(path: string, nowMs: number): Promise<number> {
  return nowMs - (await stat(path)).mtimeMs;
}

export function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return hasErrorCode(error, 'EPERM');
  }
}
