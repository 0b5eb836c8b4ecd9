// Training jobs as the server sees them: joins files, queue, journal and supervisor, and gives each tenant its view. Every call acts on
// rows; who runs a job, and whether anybody does at the moment, is the supervisor's business.

import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isRunning } from '../../adapters/store.js';
import type { CheckQuota } from '../../tenants/check-quota.js';
import { openFileBytes } from './file-bytes.js';
import { createFiles } from './files.js';
import { sweepJobFolders } from './job-folders.js';
import { createJournal } from './journal.js';
import { createQueue } from './queue.js';
import { createRecords } from './records.js';
import { createSupervisor, type SupervisorOptions } from './supervisor.js';
import { migrateTraining, type TrainingDatabase } from './tables.js';
import { tenantTraining, type TrainingParts } from './tenant-training.js';
import { JOB_STATUSES, type JobStatus, type TrainingService } from './types.js';

export interface TrainingServiceOptions extends Omit<SupervisorOptions, 'folder' | 'now'> {
  /** The registry's database. One connection for all: a second one would wait for the first one's transactions and block the thread. */
  readonly database: TrainingDatabase;
  /** Holds `files/` and `training/`; made where it is missing. */
  readonly dataDir: string;
  readonly base: TrainingParts['base'];
  /** How long the folder of a job that has ended is kept; absent is for ever. */
  readonly keepFoldersMs?: number;
  /** Absent is without quotas. */
  readonly checkQuota?: CheckQuota;
  /** Unix milliseconds. */
  readonly clock: () => number;
}

const LEASE_MS = 60_000;
const MAX_ATTEMPTS = 3;
/** How often folders are looked at that may have become old. */
const SWEEP_MS = 60 * 60_000;

const NO_QUOTA: CheckQuota = () => Promise.resolve();

/** Takes up what waits in the queue at once. */
export async function createTrainingService(options: TrainingServiceOptions): Promise<TrainingService> {
  const { database: db, dataDir, clock, base, log, checkQuota = NO_QUOTA } = options;
  await migrateTraining(db);
  const bytes = await openFileBytes(join(dataDir, 'files'));
  const folder = join(dataDir, 'training');
  await mkdir(folder, { recursive: true });
  const files = createFiles(db, bytes, checkQuota, clock);
  await files.sweep();
  const journal = createJournal(db, clock, (error) =>
    log.error('events of jobs were not written', { error }),
  );
  const records = createRecords(db);
  const queue = createQueue(db, {
    baseHash: base.baseHash,
    owner: `${hostname()}/${process.pid}/${randomUUID()}`,
    mayLive,
    leaseMs: LEASE_MS,
    maxAttempts: MAX_ATTEMPTS,
    clock,
  });
  const supervisor = createSupervisor(
    { queue, journal, records, files },
    { ...options, folder, now: () => performance.now() },
  );
  supervisor.wake();
  const { keepFoldersMs: keepMs = Infinity } = options;
  const sweep = (): Promise<void> =>
    sweepJobFolders(db, { folder, keepMs, clock }).catch((error: unknown) =>
      log.warn('folders of ended jobs were not removed', { error }),
    );
  let sweeping = sweep();
  const sweeper = setInterval(() => {
    sweeping = sweep();
  }, SWEEP_MS).unref();
  const closing = new AbortController();
  const parts = { base, files, journal, records, queue, supervisor, checkQuota, closing: closing.signal };
  return {
    of: (tenant) => tenantTraining(parts, tenant),
    holdings: (tenant) => queue.holdings(tenant),
    async countByStatus() {
      const counts = await queue.countByStatus();
      const entries = JOB_STATUSES.map((status) => [status, counts.get(status) ?? 0] as const);
      return Object.fromEntries(entries) as Record<JobStatus, number>;
    },
    figures: () => supervisor.figures(),
    async close() {
      closing.abort();
      clearInterval(sweeper);
      await sweeping;
      await supervisor.close();
      await journal.close();
    },
  };
}

/** The process that an owner's name tells of, or its worker. Another machine's cannot be seen. */
function mayLive(owner: string, workerPid: number | null): boolean {
  const [host, pid] = owner.split('/');
  if (host !== hostname()) return true;
  // A container begins again with the same process id: who has ours, and another name, has gone.
  const isServerLeft = Number(pid) !== process.pid && isRunning(Number(pid));
  return isServerLeft || (workerPid !== null && isRunning(workerPid));
}
