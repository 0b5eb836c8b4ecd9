// A registry from before there were tenants: its adapters are the default tenant's, with the versions and files they had.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sql } from 'kysely';
import Database from 'libsql';
import { adapterFiles as twoFiles, hashAdapter } from '../../src/adapters/adapter-files.js';
import { createPacer } from '../../src/adapters/pacer.js';
import { createAdapterService } from '../../src/adapters/service.js';
import { migrateTraining, type TrainingDatabase } from '../../src/train/jobs/tables.js';
import { adapterFiles, fixtureBase } from '../helpers/adapter-fixtures.js';
import { memoryDatabase } from '../helpers/training-jobs.js';

const base = fixtureBase('llama-tied');
const files = adapterFiles('llama-tied', 'lora-qv-r8');

/** What the release before wrote, statement by statement. */
async function oldFolder(t: TestContext) {
  const dataDir = mkdtempSync(join(tmpdir(), 'old-registry-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const hash = await hashAdapter(twoFiles(files), createPacer());
  mkdirSync(join(dataDir, 'adapters', hash), { recursive: true });
  for (const name of ['adapter_config.json', 'adapter_model.safetensors'])
    writeFileSync(join(dataDir, 'adapters', hash, name), files.get(name)!);
  const db = new Database(join(dataDir, 'registry.db'));
  db.exec(`
    create table kysely_migration (name varchar(255) not null primary key, timestamp varchar(255) not null);
    create table kysely_migration_lock (id varchar(255) not null primary key, is_locked integer default 0 not null);
    insert into kysely_migration_lock values ('migration_lock', 0);
    insert into kysely_migration values ('0001-adapters', '2026-01-01T00:00:00.000Z');
    create table adapters (base_hash text not null, name text not null, version integer not null, hash text not null,
      info text not null, created_at integer not null, current integer not null,
      constraint adapters_pk primary key (base_hash, name, version));
    create unique index adapters_one_current on adapters (base_hash, name) where current = 1;
  `);
  const info = JSON.stringify({
    peftType: 'LORA',
    servedAs: 'lora',
    rank: 8,
    targetModules: ['q_proj', 'v_proj'],
    numVirtualTokens: null,
    sizeBytes: 10,
    base: base.name,
  });
  const insert = db.prepare('insert into adapters values (?, ?, ?, ?, ?, ?, ?)');
  insert.run(base.baseHash, 'german', 1, 'f'.repeat(64), info, 100, 0);
  insert.run(base.baseHash, 'german', 2, hash, info, 200, 1);
  insert.run('another base', 'german', 7, hash, info, 300, 1);
  return { dataDir, hash, db };
}

const open = (dataDir: string) =>
  createAdapterService({
    dataDir,
    base,
    cacheBytes: 1 << 20,
    keptVersions: 5,
    runPrompt: () => Promise.reject(new Error('no prompts here')),
  });

test('adapters from before belong to the default tenant and load', async (t) => {
  const { dataDir, hash, db } = await oldFolder(t);
  db.close();
  const service = await open(dataDir);
  t.after(() => service.dispose());
  const own = service.of('default');
  assert.deepEqual(
    (await own.list()).map(({ name, owner, version, hash: stored }) => [name, owner, version, stored]),
    [['german', 'default', 2, hash]],
  );
  assert.deepEqual(
    (await own.versions('german')).map(({ info }) => info.version),
    [2],
    'the version whose files had gone is no version',
  );
  (await own.acquire('german@2')).release();
  assert.equal((await own.register('german', files)).version, 3);
  assert.deepEqual(await service.of('acme').list(), []);
  const kept = await service.database
    .selectFrom('adapters')
    .select(['tenant', 'version'])
    .where('base_hash', '=', 'another base')
    .execute();
  assert.deepEqual(kept, [{ tenant: 'default', version: 7 }]);
});

test('a crash between the step and its note is no harm', async (t) => {
  const { dataDir, hash, db } = await oldFolder(t);
  await (await open(dataDir)).dispose();
  db.exec("delete from kysely_migration where name = '0002-tenants'");
  db.close();
  const service = await open(dataDir);
  t.after(() => service.dispose());
  assert.equal((await service.of('default').get('german'))!.hash, hash);
});

test('files and jobs from before belong to the default tenant', async () => {
  const db: TrainingDatabase = memoryDatabase();
  await migrateTraining(db);
  for (const name of ['training_files', 'training_jobs'] as const) {
    await db.schema.dropIndex(`${name}_tenant`).execute();
    await db.schema.alterTable(name).dropColumn('tenant').execute();
  }
  const old = { created_at: 1, hash: 'h', filename: 'f', purpose: 'fine-tune', size_bytes: 3, num_lines: 1 };
  // The column is missing, as it was.
  await db
    .insertInto('training_files')
    .values({ id: 'file-1', ...old } as never)
    .execute();
  await sql`delete from training_migrations where name = '0002-tenants'`.execute(db);
  await migrateTraining(db);
  const rows = await db.selectFrom('training_files').select(['id', 'tenant']).execute();
  assert.deepEqual(rows, [{ id: 'file-1', tenant: 'default' }]);
});
