// The tables of training in the registry's database. They have a migration history of their own: who opens the file for adapters alone
// need not know of them. A step that has been released is never changed; a new one is added.

import { type Generated, type Kysely, type Migration, Migrator, sql } from 'kysely';
import { hasColumn } from '../../adapters/registry-migrations.js';
import { DEFAULT_TENANT } from '../../tenants/types.js';

interface Row {
  /** The order in which rows came. */
  seq: Generated<number>;
  id: string;
  /** Unix seconds. */
  created_at: number;
}

export interface FileTable extends Row {
  /** Whose it is. */
  tenant: string;
  /** sha256 of the bytes: their name on disk. */
  hash: string;
  filename: string;
  purpose: string;
  size_bytes: number;
  /** Lines that are not blank. */
  num_lines: number;
}

/** What is in the column `status`; how people see it depends on `wanted` and `step` too. */
export type StoredStatus = 'queued' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled';

export interface JobTable extends Row {
  /** Whose it is, and whose adapter it makes. */
  tenant: string;
  base_hash: string;
  base: string;
  /** What it will be published as. */
  model_name: string;
  /** JSON objects. */
  metadata: string;
  options: string;
  learning_rate_multiplier: number;
  training_file: string;
  training_hash: string;
  training_filename: string;
  validation_file: string | null;
  validation_hash: string | null;
  validation_filename: string | null;
  status: StoredStatus;
  /** What a running job is to become: paused or cancelled; or that its result is being published, and it is too late for either. */
  wanted: 'pause' | 'cancel' | 'publish' | null;
  /** The server whose worker runs it, and until when that is believed (Unix milliseconds) without a sign of life. */
  owner: string | null;
  lease_until: number | null;
  worker_pid: number | null;
  /** Times that a worker took it since it last wrote a checkpoint. */
  attempts: number;
  step: number;
  total_steps: number;
  trained_tokens: number;
  estimated_finish: number | null;
  finished_at: number | null;
  /** JobError as JSON. */
  error: string | null;
  fine_tuned_model: string | null;
  result_folder: string | null;
  result_file: string | null;
}

export interface EventTable extends Row {
  job_id: string;
  /** TrainingEvent as JSON. */
  event: string;
}

export interface CheckpointTable extends Row {
  job_id: string;
  step: number;
  path: string;
  /** Null where it was not finite. */
  train_loss: number | null;
  eval_loss: number | null;
  /** 1 once it is served under its own name. */
  served: number;
}

export interface TrainingSchema {
  training_files: FileTable;
  training_jobs: JobTable;
  training_events: EventTable;
  training_checkpoints: CheckpointTable;
}

export type TrainingDatabase = Kysely<TrainingSchema>;

/** Creates and migrates the tables as needed. */
export async function migrateTraining(db: TrainingDatabase): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations()) },
    migrationTableName: 'training_migrations',
    migrationLockTableName: 'training_migrations_lock',
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

function migrations(): Record<string, Migration> {
  return { '0001-training': { up: createTables }, '0002-tenants': { up: addTenants } };
}

/** What came before belongs to the default tenant. Noted as done after its last statement: it must bear being run again. */
async function addTenants(db: Kysely<unknown>): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    for (const name of ['training_files', 'training_jobs']) {
      if (await hasColumn(transaction, name, 'tenant')) continue;
      await transaction.schema
        .alterTable(name)
        .addColumn('tenant', 'text', (column) => column.notNull().defaultTo(sql.lit(DEFAULT_TENANT)))
        .execute();
      await transaction.schema.createIndex(`${name}_tenant`).on(name).columns(['tenant', 'seq']).execute();
    }
  });
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  await table(db, 'training_files')
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('filename', 'text', (column) => column.notNull())
    .addColumn('purpose', 'text', (column) => column.notNull())
    .addColumn('size_bytes', 'integer', (column) => column.notNull())
    .addColumn('num_lines', 'integer', (column) => column.notNull())
    .execute();
  await createJobs(db);
  await table(db, 'training_events')
    .addColumn('job_id', 'text', (column) => column.notNull())
    .addColumn('event', 'text', (column) => column.notNull())
    .execute();
  await table(db, 'training_checkpoints')
    .addColumn('job_id', 'text', (column) => column.notNull())
    .addColumn('step', 'integer', (column) => column.notNull())
    .addColumn('path', 'text', (column) => column.notNull())
    .addColumn('train_loss', 'real')
    .addColumn('eval_loss', 'real')
    .addColumn('served', 'integer', (column) => column.notNull())
    .addUniqueConstraint('training_checkpoints_step', ['job_id', 'step'])
    .execute();
  await db.schema
    .createIndex('training_events_job')
    .on('training_events')
    .columns(['job_id', 'seq'])
    .execute();
}

async function createJobs(db: Kysely<unknown>): Promise<void> {
  await table(db, 'training_jobs')
    .addColumn('base_hash', 'text', (column) => column.notNull())
    .addColumn('base', 'text', (column) => column.notNull())
    .addColumn('model_name', 'text', (column) => column.notNull())
    .addColumn('metadata', 'text', (column) => column.notNull())
    .addColumn('options', 'text', (column) => column.notNull())
    .addColumn('learning_rate_multiplier', 'real', (column) => column.notNull())
    .addColumn('training_file', 'text', (column) => column.notNull())
    .addColumn('training_hash', 'text', (column) => column.notNull())
    .addColumn('training_filename', 'text', (column) => column.notNull())
    .addColumn('validation_file', 'text')
    .addColumn('validation_hash', 'text')
    .addColumn('validation_filename', 'text')
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('wanted', 'text')
    .addColumn('owner', 'text')
    .addColumn('lease_until', 'integer')
    .addColumn('worker_pid', 'integer')
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('step', 'integer', (column) => column.notNull())
    .addColumn('total_steps', 'integer', (column) => column.notNull())
    .addColumn('trained_tokens', 'integer', (column) => column.notNull())
    .addColumn('estimated_finish', 'integer')
    .addColumn('finished_at', 'integer')
    .addColumn('error', 'text')
    .addColumn('fine_tuned_model', 'text')
    .addColumn('result_folder', 'text')
    .addColumn('result_file', 'text')
    .execute();
  await db.schema
    .createIndex('training_jobs_status')
    .on('training_jobs')
    .columns(['base_hash', 'status', 'seq'])
    .execute();
}

function table(db: Kysely<unknown>, name: string) {
  return db.schema
    .createTable(name)
    .addColumn('seq', 'integer', (column) => column.primaryKey().autoIncrement())
    .addColumn('id', 'text', (column) => column.notNull().unique())
    .addColumn('created_at', 'integer', (column) => column.notNull());
}
