// Records which files and folders are synced: their paths, in order, under the names they have then. Reads what is open from /proc.
import { readlinkSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { mock } from 'node:test';

/** Why a test of syncs cannot run here; false where it can. */
export const SYNCS_ARE_HIDDEN = process.platform === 'linux' ? false : 'what is open is read from /proc';

/** Until mock.restoreAll(). */
export async function recordSyncs(): Promise<string[]> {
  const synced: string[] = [];
  const probe = await open('/', 'r');
  const prototype: FileHandle = Object.getPrototypeOf(probe);
  await probe.close();
  const sync: (this: FileHandle) => Promise<void> = Reflect.get(prototype, 'sync');
  mock.method(prototype, 'sync', function (this: FileHandle) {
    synced.push(readlinkSync(`/proc/self/fd/${this.fd}`));
    return sync.call(this);
  });
  return synced;
}
