// The queue of jobs, as rows: who may run which job, and what a job becomes. Every change is one statement that names the state it
// expects, so that servers on the same file and a crash in between cannot disagree. Knows no worker and no files.

import { type SelectQueryBuilder, sql } from 'kysely';
import { afterEnding, type Ending, type StoredJob, visibleStatus } from './job-state.js';
import { pageOf, seqAfter } from './paging.js';
import type { TrainingDatabase, TrainingSchema } from './tables.js';
import type { JobListRequest, JobStatus, Page, TrainingHoldings } from './types.js';

/** What a job that is to run brings along; the rest begins empty. */
export type NewJob = Pick<
  StoredJob,
  | 'id'
  | 'tenant'
  | 'base'
  | 'model_name'
  | 'metadata'
  | 'options'
  | 'learning_rate_multiplier'
  | 'training_file'
  | 'training_hash'
  | 'training_filename'
  | 'validation_file'
  | 'validation_hash'
  | 'validation_filename'
>;

export interface QueueOptions {
  readonly baseHash: string;
  /** Names this server's process and nobody else, ever. */
  readonly owner: string;
  /** Whether a process of such a name, or its worker, may still be alive; where not, its jobs are given back at once. */
  readonly mayLive: (owner: string, workerPid: number | null) => boolean;
  /** How long a job is believed to run without a sign of life. */
  readonly leaseMs: number;
  /** Workers that may die of a job, one after the other without a new checkpoint, before it fails. */
  readonly maxAttempts: number;
  /** Unix milliseconds. */
  readonly clock: () => number;
}

export interface JobQueue {
  add(job: NewJob): Promise<StoredJob>;
  get(id: string): Promise<StoredJob | null>;
  list(tenant: string, request: JobListRequest): Promise<Page<StoredJob>>;
  countByStatus(): Promise<ReadonlyMap<JobStatus, number>>;
  /** A tenant's jobs that have not ended, and the bytes of its files. */
  holdings(tenant: string): Promise<TrainingHoldings>;
  /** Null where the job is in no state for it. */
  cancel(id: string): Promise<StoredJob | null>;
  pause(id: string): Promise<StoredJob | null>;
  resume(id: string): Promise<StoredJob | null>;
  /** Takes the oldest job that waits, or that a dead server has left; null where there is none. Nothing of ours may be running. */
  claim(): Promise<StoredJob | null>;
  setWorker(id: string, pid: number): Promise<void>;
  /** A sign of life. False where the job is no longer ours. */
  renew(id: string): Promise<boolean>;
  /** Whether a job of ours is to be paused or cancelled. */
  wanted(id: string): Promise<'pause' | 'cancel' | null>;
  /** From here on the job can be neither cancelled nor paused. False where it was cancelled, or is no longer ours. */
  beginPublishing(id: string): Promise<boolean>;
  /** Null where the job was no longer ours. */
  settle(id: string, ending: Ending): Promise<StoredJob | null>;
  setResultFile(id: string, fileId: string): Promise<void>;
}

export function createQueue(db: TrainingDatabase, options: QueueOptions): JobQueue {
  const { baseHash, owner, leaseMs, clock } = options;
  const seconds = () => Math.floor(clock() / 1000);
  const jobs = () => db.selectFrom('training_jobs').selectAll().where('base_hash', '=', baseHash);

  /** One change of a job that is in one of these states. */
  const change = (id: string) =>
    db.updateTable('training_jobs').where('id', '=', id).where('base_hash', '=', baseHash);

  async function get(id: string): Promise<StoredJob | null> {
    return (await jobs().where('id', '=', id).executeTakeFirst()) ?? null;
  }

  async function recoverExpired(): Promise<void> {
    const running = await jobs().where('status', '=', 'running').execute();
    for (const job of running) {
      const isExpired = (job.lease_until ?? 0) < clock();
      const isOurs = job.owner === owner;
      if (!isOurs && !isExpired && options.mayLive(job.owner ?? '', job.worker_pid)) continue;
      const ending: Ending = { kind: 'crashed', message: 'The server that ran the job let go of it' };
      await change(job.id)
        .set(afterEnding(job, ending, options.maxAttempts, seconds()))
        .where('status', '=', 'running')
        .where('owner', 'is', job.owner)
        .where('lease_until', 'is', job.lease_until)
        .execute();
    }
  }

  return {
    get,
    async add(job) {
      return db
        .insertInto('training_jobs')
        .values({
          ...job,
          base_hash: baseHash,
          created_at: seconds(),
          status: 'queued',
          attempts: 0,
          step: 0,
          total_steps: 0,
          trained_tokens: 0,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
    },
    async list(tenant, request) {
      const own = () => jobs().where('tenant', '=', tenant);
      const seq = await seqAfter(request.after, (id) => own().where('id', '=', id).executeTakeFirst());
      let query = withMetadata(own(), request.metadata).orderBy('seq', 'desc');
      if (seq !== null) query = query.where('seq', '<', seq);
      return pageOf(
        request,
        (limit) => query.limit(limit).execute(),
        (row) => row,
      );
    },
    async countByStatus() {
      const rows = await db
        .selectFrom('training_jobs')
        .select(['status', 'wanted', (column) => column('step', '>', 0).as('has_begun')])
        .select((column) => column.fn.countAll<number>().as('count'))
        .where('base_hash', '=', baseHash)
        .groupBy(['status', 'wanted', 'has_begun'])
        .execute();
      const counts = new Map<JobStatus, number>();
      for (const { status, wanted, has_begun: hasBegun, count } of rows) {
        const seen = visibleStatus({ status, wanted, step: Number(hasBegun) });
        counts.set(seen, (counts.get(seen) ?? 0) + count);
      }
      return counts;
    },
    async holdings(tenant) {
      const { count } = await db
        .selectFrom('training_jobs')
        .select((column) => column.fn.countAll<number>().as('count'))
        .where('tenant', '=', tenant)
        .where('status', 'in', ['queued', 'running', 'paused'])
        .where((where) => where.or([where('wanted', 'is', null), where('wanted', '!=', 'cancel')]))
        .executeTakeFirstOrThrow();
      const { bytes } = await db
        .selectFrom('training_files')
        .select((column) => column.fn.sum<number | null>('size_bytes').as('bytes'))
        .where('tenant', '=', tenant)
        .where('purpose', '=', 'fine-tune')
        .executeTakeFirstOrThrow();
      return { numJobs: count, sizeBytes: bytes ?? 0 };
    },
    async cancel(id) {
      const row = await change(id)
        .set({
          status: sql`case status when 'running' then 'running' else 'cancelled' end`,
          wanted: sql`case status when 'running' then 'cancel' end`,
          finished_at: sql`coalesce(finished_at, ${seconds()})`,
          estimated_finish: null,
        })
        .where('status', 'in', ['queued', 'running', 'paused', 'cancelled'])
        .where((where) => where.or([where('wanted', 'is', null), where('wanted', '!=', 'publish')]))
        .returningAll()
        .executeTakeFirst();
      return row ?? null;
    },
    async pause(id) {
      const row = await change(id)
        .set({
          status: sql`case status when 'running' then 'running' else 'paused' end`,
          wanted: sql`case status when 'running' then 'pause' end`,
          estimated_finish: null,
        })
        .where('status', 'in', ['queued', 'running', 'paused'])
        .where((where) => where.or([where('wanted', 'is', null), where('wanted', '=', 'pause')]))
        .returningAll()
        .executeTakeFirst();
      return row ?? null;
    },
    async resume(id) {
      const row = await change(id)
        .set({ status: sql`case status when 'paused' then 'queued' else status end`, wanted: null })
        .where('status', 'in', ['queued', 'running', 'paused'])
        .where((where) => where.or([where('wanted', 'is', null), where('wanted', '=', 'pause')]))
        .returningAll()
        .executeTakeFirst();
      return row ?? null;
    },
    async claim() {
      await recoverExpired();
      const row = await db
        .updateTable('training_jobs')
        .set((column) => ({
          status: 'running',
          owner,
          lease_until: clock() + leaseMs,
          worker_pid: null,
          attempts: column('attempts', '+', 1),
        }))
        .where('id', '=', (query) =>
          query
            .selectFrom('training_jobs')
            .select('id')
            .where('base_hash', '=', baseHash)
            .where('status', '=', 'queued')
            .orderBy('seq')
            .limit(1),
        )
        .where('status', '=', 'queued')
        .returningAll()
        .executeTakeFirst();
      return row ?? null;
    },
    async setWorker(id, pid) {
      await change(id).set({ worker_pid: pid }).where('owner', '=', owner).execute();
    },
    async renew(id) {
      const row = await change(id)
        .set({ lease_until: clock() + leaseMs })
        .where('status', '=', 'running')
        .where('owner', '=', owner)
        .returning('id')
        .executeTakeFirst();
      return row !== undefined;
    },
    async wanted(id) {
      const wanted = (await get(id))?.wanted ?? null;
      return wanted === 'publish' ? null : wanted;
    },
    async beginPublishing(id) {
      const row = await change(id)
        .set({ wanted: 'publish' })
        .where('status', '=', 'running')
        .where('owner', '=', owner)
        .where((where) => where.or([where('wanted', 'is', null), where('wanted', '!=', 'cancel')]))
        .returning('id')
        .executeTakeFirst();
      return row !== undefined;
    },
    async settle(id, ending) {
      for (;;) {
        const job = await get(id);
        if (job?.status !== 'running' || job.owner !== owner) return null;
        const row = await change(id)
          .set(afterEnding(job, ending, options.maxAttempts, seconds()))
          .where('status', '=', 'running')
          .where('owner', '=', owner)
          .where('wanted', 'is', job.wanted)
          .returningAll()
          .executeTakeFirst();
        // Otherwise a wish came in between, or another server took the job.
        if (row !== undefined) return row;
      }
    },
    async setResultFile(id, fileId) {
      await change(id).set({ result_file: fileId }).execute();
    },
  };
}

type JobQuery = SelectQueryBuilder<TrainingSchema, 'training_jobs', StoredJob>;

function withMetadata(query: JobQuery, metadata: JobListRequest['metadata']): JobQuery {
  if (metadata === null) return query;
  const pairs = Object.entries(metadata);
  if (pairs.length === 0) return query.where('metadata', '=', '{}');
  return pairs.reduce(
    (narrowed, [key, value]) =>
      narrowed.where(
        sql<boolean>`exists (select 1 from json_each(metadata) as entry where entry.key = ${key} and entry.value = ${value})`,
      ),
    query,
  );
}
