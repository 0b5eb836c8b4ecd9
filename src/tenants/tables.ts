// The tables of tenants, keys and usage in the registry's database. They have a migration history of their own: who opens the file for
// adapters alone need not know of them. A step that has been released is never changed; a new one is added.

import { type Kysely, type Migration, Migrator } from 'kysely';
import { DEFAULT_TENANT } from './types.js';

export interface TenantTable {
  name: string;
  /** Unix seconds. */
  created_at: number;
  /** Rows stay: a name is not given twice, lest a tenant find what another one left. */
  deleted_at: number | null;
  priority: number;
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  max_adapters: number | null;
  max_bytes: number | null;
  max_jobs: number | null;
}

/** Rows stay when a key ends: that there has been one is what closes the server to everybody without. */
export interface KeyTable {
  id: string;
  /** sha256 of the key, in hex. */
  hash: string;
  tenant: string;
  name: string;
  prefix: string;
  /** Words with commas between them. */
  scopes: string;
  /** Unix seconds, as all times here. */
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
  rotated_to: string | null;
}

export interface UsageTable {
  tenant: string;
  /** '' is the base. */
  adapter: string;
  /** UTC, as 2026-01-31. */
  day: string;
  requests: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
}

export interface TenantSchema {
  tenants: TenantTable;
  api_keys: KeyTable;
  usage: UsageTable;
}

export type TenantDatabase = Kysely<TenantSchema>;

/** Creates and migrates the tables as needed. */
export async function migrateTenants(db: TenantDatabase): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations()) },
    migrationTableName: 'tenant_migrations',
    migrationLockTableName: 'tenant_migrations_lock',
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

function migrations(): Record<string, Migration> {
  return { '0001-tenants': { up: createTables } };
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('tenants')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addColumn('deleted_at', 'integer')
    .addColumn('priority', 'integer', (column) => column.notNull())
    .addColumn('requests_per_minute', 'integer')
    .addColumn('tokens_per_minute', 'integer')
    .addColumn('max_adapters', 'integer')
    .addColumn('max_bytes', 'integer')
    .addColumn('max_jobs', 'integer')
    .execute();
  // Everybody's tenant before there were any.
  const first = { name: DEFAULT_TENANT, created_at: 0, deleted_at: null, priority: 0 };
  await (db as TenantDatabase)
    .insertInto('tenants')
    .values({ ...NO_LIMITS, ...first })
    .execute();
  await createKeys(db);
  await db.schema
    .createTable('usage')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('adapter', 'text', (column) => column.notNull())
    .addColumn('day', 'text', (column) => column.notNull())
    .addColumn('requests', 'integer', (column) => column.notNull())
    .addColumn('prompt_tokens', 'integer', (column) => column.notNull())
    .addColumn('cached_tokens', 'integer', (column) => column.notNull())
    .addColumn('completion_tokens', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('usage_pk', ['tenant', 'adapter', 'day'])
    .execute();
}

const NO_LIMITS = {
  requests_per_minute: null,
  tokens_per_minute: null,
  max_adapters: null,
  max_bytes: null,
  max_jobs: null,
};

async function createKeys(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('api_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('prefix', 'text', (column) => column.notNull())
    .addColumn('scopes', 'text', (column) => column.notNull())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addColumn('expires_at', 'integer')
    .addColumn('revoked_at', 'integer')
    .addColumn('last_used_at', 'integer')
    .addColumn('rotated_to', 'text')
    .execute();
}
