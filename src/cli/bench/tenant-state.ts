// A data folder of its own for a server under test: the prepared models of the real one, and no keys, tenants or adapters. So a run makes
// keys without locking anybody out, and leaves nothing behind.
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** Runs `work` with the folder, which is removed after it. */
export async function withFreshState<T>(dataDir: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-tenants-'));
  try {
    for (const name of ['models', 'converted']) {
      const shared = join(resolve(dataDir), name);
      await mkdir(shared, { recursive: true });
      await symlink(shared, join(folder, name), 'junction');
    }
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
