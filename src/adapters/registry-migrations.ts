// The registry's schema, as the steps that lead to it. A step that has been released is never changed; a new one is added.

import { type Kysely, type Migration, sql } from 'kysely';

/** Name -> step, run in the order of the names. */
export function migrations(): Record<string, Migration> {
  return { '0001-adapters': { up: createAdapters } };
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
