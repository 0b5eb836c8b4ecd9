// The registry's schema, as the steps that lead to it. A step that has been released is never changed; a new one is added. SQLite notes
// a step as done after its last statement: a step must bear being run again.

import { type Kysely, type Migration, sql } from 'kysely';
import { DEFAULT_TENANT } from '../tenants/types.js';

/** Name -> step, run in the order of the names. */
export function migrations(): Record<string, Migration> {
  return { '0001-adapters': { up: createAdapters }, '0002-tenants': { up: addTenants } };
}

async function createAdapters(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('adapters')
    .addColumn('base_hash', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('version', 'integer', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('info', 'text', (column) => column.notNull())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addColumn('current', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('adapters_pk', ['base_hash', 'name', 'version'])
    .execute();
  await db.schema
    .createIndex('adapters_one_current')
    .on('adapters')
    .columns(['base_hash', 'name'])
    .where(sql.ref('current'), '=', 1)
    .unique()
    .execute();
}

async function addTenants(db: Kysely<unknown>): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    if (await hasColumn(transaction, 'adapters', 'tenant')) return;
    await rebuildAdapters(transaction);
    await createShares(transaction);
    await createAliases(transaction);
  });
}

/** A primary key cannot be changed in place. Of the rows before, only the current ones have files. */
async function rebuildAdapters(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('adapters_of_tenants')
    .addColumn('base_hash', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('version', 'integer', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('info', 'text', (column) => column.notNull())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addColumn('current', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('adapters_of_tenants_pk', ['base_hash', 'tenant', 'name', 'version'])
    .execute();
  await sql`
    insert into adapters_of_tenants (base_hash, tenant, name, version, hash, info, created_at, current)
    select base_hash, ${DEFAULT_TENANT}, name, version, hash, info, created_at, current from adapters where current = 1
  `.execute(db);
  await db.schema.dropTable('adapters').execute();
  await db.schema.alterTable('adapters_of_tenants').renameTo('adapters').execute();
  await db.schema
    .createIndex('adapters_one_current')
    .on('adapters')
    .columns(['base_hash', 'tenant', 'name'])
    .where(sql.ref('current'), '=', 1)
    .unique()
    .execute();
}

async function createShares(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('adapter_shares')
    .addColumn('base_hash', 'text', (column) => column.notNull())
    .addColumn('owner', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('grantee', 'text', (column) => column.notNull())
    .addColumn('plain', 'integer', (column) => column.notNull())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('adapter_shares_pk', ['base_hash', 'owner', 'name', 'grantee'])
    .execute();
  await db.schema
    .createIndex('adapter_shares_grantee')
    .on('adapter_shares')
    .columns(['base_hash', 'grantee'])
    .execute();
}

async function createAliases(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('adapter_aliases')
    .addColumn('base_hash', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('alias', 'text', (column) => column.notNull())
    .addColumn('targets', 'text', (column) => column.notNull())
    .addColumn('created_at', 'integer', (column) => column.notNull())
    .addColumn('updated_at', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('adapter_aliases_pk', ['base_hash', 'tenant', 'alias'])
    .execute();
}

/** Whether a table has a column already. */
export async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`select 1 from pragma_table_info(${table}) where name = ${column}`.execute(db);
  return rows.length > 0;
}
