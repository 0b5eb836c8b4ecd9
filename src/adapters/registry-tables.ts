// The registry's tables in SQLite (<dataDir>/registry.db), and opening the file. All of them belong to a base: what was registered for
// another base is kept, but not seen.

import Database from 'libsql';
import { Kysely, Migrator, SqliteDialect } from 'kysely';
import { migrations } from './registry-migrations.js';

interface AdapterTable {
  base_hash: string;
  /** Whose it is. */
  tenant: string;
  name: string;
  version: number;
  hash: string;
  /** The rest of AdapterInfo, as JSON. */
  info: string;
  /** Unix seconds. */
  created_at: number;
  /** 1 for the version that the name alone means, else 0. */
  current: number;
}

interface ShareTable {
  base_hash: string;
  owner: string;
  name: string;
  /** A tenant, or `*` for all. */
  grantee: string;
  /** 1 where it may be used without its owner's name in front. */
  plain: number;
  created_at: number;
}

interface AliasTable {
  base_hash: string;
  tenant: string;
  alias: string;
  /** AliasTarget[] as JSON. */
  targets: string;
  created_at: number;
  updated_at: number;
}

export interface RegistrySchema {
  adapters: AdapterTable;
  adapter_shares: ShareTable;
  adapter_aliases: AliasTable;
}

export type RegistryDatabase = Kysely<RegistrySchema>;

/** Creates and migrates the file as needed. */
export async function openRegistryDatabase(path: string): Promise<RegistryDatabase> {
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('busy_timeout = 5000');
  const db = new Kysely<RegistrySchema>({ dialect: new SqliteDialect({ database }) });
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations()) } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
  return db;
}
