// The data folder's tables of tenants and keys, for commands that work without a server.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openRegistryDatabase } from '../adapters/registry-tables.js';
import { migrateTenants, type TenantDatabase } from '../tenants/tables.js';

/** Made where it is missing: the first key comes before the first server. A server on the same folder may run beside it. */
export async function withTenantDatabase<T>(
  { dataDir }: { readonly dataDir: string },
  task: (database: TenantDatabase) => Promise<T>,
): Promise<T> {
  await mkdir(dataDir, { recursive: true });
  const registry = await openRegistryDatabase(join(dataDir, 'registry.db'));
  try {
    // The schema of its own tables, on the same connection.
    const database = registry as unknown as TenantDatabase;
    await migrateTenants(database);
    return await task(database);
  } finally {
    await registry.destroy();
  }
}

export function nowS(): number {
  return Math.floor(Date.now() / 1000);
}
