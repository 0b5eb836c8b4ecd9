// Which names are registered, in SQLite (<dataDir>/registry.db): every registration is a row, the newest under a name is current.
// Names belong to a base: adapters of another base are kept, but not seen. Rows only: files are the store's.

import Database from 'libsql';
import { type Kysely, Kysely as KyselyDatabase, Migrator, type Selectable, SqliteDialect } from 'kysely';
import { migrations } from './registry-migrations.js';
import type { AdapterInfo } from './types.js';

interface AdapterTable {
  base_hash: string;
  name: string;
  version: number;
  hash: string;
  /** The rest of AdapterInfo, as JSON. */
  info: string;
  /** Unix seconds. */
  created_at: number;
  /** 1 for the newest version of the name, else 0. */
  current: number;
}
export interface RegistrySchema {
  adapters: AdapterTable;
}

export type NewAdapter = Omit<AdapterInfo, 'version'>;

export interface AdapterRegistry {
  /** Current versions, by name. */
  list(): Promise<readonly AdapterInfo[]>;
  get(name: string): Promise<AdapterInfo | null>;
  /** Adds the next version and makes it current. Durable on return. `superseded` is the hash that the name had before. */
  add(adapter: NewAdapter): Promise<{ readonly info: AdapterInfo; readonly superseded: string | null }>;
  /** Removes the name and all its versions; the hash it had, or null where it was not registered. Durable on return. */
  remove(name: string): Promise<string | null>;
  /** Names of the bases other than this for which the name is registered. */
  otherBases(name: string): Promise<readonly string[]>;
  /** Hashes of the current versions, of all bases. */
  usedHashes(): Promise<ReadonlySet<string>>;
  /** The connection, for other tables in the same file: a second one would wait for this one's transactions, and block the thread. */
  readonly database: Kysely<RegistrySchema>;
  close(): Promise<void>;
}

/** Opens the database, creating and migrating it as needed. */
export async function openRegistry(path: string, baseHash: string): Promise<AdapterRegistry> {
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('busy_timeout = 5000');
  const db = new KyselyDatabase<RegistrySchema>({ dialect: new SqliteDialect({ database }) });
  await migrate(db);
  const current = () =>
    db.selectFrom('adapters').selectAll().where('base_hash', '=', baseHash).where('current', '=', 1);

  return {
    database: db,
    async list() {
      return (await current().orderBy('name').execute()).map(toInfo);
    },
    async get(name) {
      const row = await current().where('name', '=', name).executeTakeFirst();
      return row === undefined ? null : toInfo(row);
    },
    async add(adapter) {
      return db.transaction().execute(async (transaction) => addVersion(transaction, baseHash, adapter));
    },
    async remove(name) {
      const rows = await db
        .deleteFrom('adapters')
        .where('base_hash', '=', baseHash)
        .where('name', '=', name)
        .returning(['hash', 'current'])
        .execute();
      return rows.find((row) => row.current === 1)?.hash ?? null;
    },
    async otherBases(name) {
      const rows = await db
        .selectFrom('adapters')
        .selectAll()
        .where('name', '=', name)
        .where('current', '=', 1)
        .where('base_hash', '!=', baseHash)
        .execute();
      return rows.map((row) => toInfo(row).base);
    },
    async usedHashes() {
      const rows = await db.selectFrom('adapters').select('hash').where('current', '=', 1).execute();
      return new Set(rows.map((row) => row.hash));
    },
    close: () => db.destroy(),
  };
}

async function addVersion(db: Kysely<RegistrySchema>, baseHash: string, adapter: NewAdapter) {
  const { name, hash, createdAt, ...rest } = adapter;
  // The write comes first: it takes the lock, so that nobody else can give out the same version.
  const before = await db
    .updateTable('adapters')
    .set({ current: 0 })
    .where('base_hash', '=', baseHash)
    .where('name', '=', name)
    .where('current', '=', 1)
    .returning(['version', 'hash'])
    .executeTakeFirst();
  const version = (before?.version ?? 0) + 1;
  await db
    .insertInto('adapters')
    .values({
      base_hash: baseHash,
      name,
      version,
      hash,
      info: JSON.stringify(rest),
      created_at: createdAt,
      current: 1,
    })
    .execute();
  return { info: { ...adapter, version }, superseded: before?.hash ?? null };
}

function toInfo(row: Selectable<AdapterTable>): AdapterInfo {
  // Written by addVersion and by nobody else.
  const rest: Omit<AdapterInfo, 'name' | 'version' | 'hash' | 'createdAt'> = JSON.parse(row.info);
  return { ...rest, name: row.name, version: row.version, hash: row.hash, createdAt: row.created_at };
}

async function migrate(db: Kysely<RegistrySchema>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations()) } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}
