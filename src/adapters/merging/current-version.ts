// Whether content is what some name means now. Earlier versions are kept for a rollback, but no merge is made for them.

import type { RegistryDatabase } from '../registry-tables.js';

export async function isCurrentVersion(
  database: RegistryDatabase,
  baseHash: string,
  hash: string,
): Promise<boolean> {
  const row = await database
    .selectFrom('adapters')
    .select('hash')
    .where('base_hash', '=', baseHash)
    .where('hash', '=', hash)
    .where('current', '=', 1)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}
