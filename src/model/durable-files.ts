// What a power cut must not undo: contents and names of files, on the disk before anything relies on them.
// A rename alone can outlive the contents it names, so a file or folder is synced before it is renamed into its place.

import { open, readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Syncs a file's contents. */
export async function syncFile(path: string): Promise<void> {
  await sync(path, 'r+');
}

/** Syncs a folder: the contents of its files, and their names. Folders in it are left out. */
export async function syncFolder(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true }))
    if (entry.isFile()) await syncFile(join(path, entry.name));
  await syncNames(path);
}

/** Renames what was synced; the new name is durable on return. Both paths are in the same folder. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncNames(dirname(to));
}

/** Windows cannot open folders, and needs no such step. */
async function syncNames(folder: string): Promise<void> {
  if (process.platform !== 'win32') await sync(folder, 'r');
}

async function sync(path: string, flags: 'r' | 'r+'): Promise<void> {
  const file = await open(path, flags);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
