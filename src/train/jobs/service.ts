// Training jobs as the server sees them: joins files, queue, journal and supervisor. Every call acts on rows; who runs a job, and whether
// anybody does at the moment, is the supervisor's business.

import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { checkAdapterName } from '../../adapters/adapter-name.js';
import { isRunning } from '../../adapters/store.js';
import { GatewayError } from '../../errors.js';
import { openFileBytes } from './file-bytes.js';
import { createFiles, type FileShelf, type StoredFile } from './files.js';
import { checkpointName, modelName, newId } from './ids.js';
import { resolveOptions } from './job-options.js';
import { hasEnded, type StoredJob, toJob, visibleStatus } from './job-state.js';
import { createJournal, type Journal } from './journal.js';
import { createQueue, type JobQueue } from './queue.js';
import { createRecords, type Records } from './records.js';
import { createSupervisor, type Supervisor, type SupervisorOptions } from './supervisor.js';
import { migrateTraining, type TrainingDatabase } from './tables.js';
import {
  type Job,
  JOB_STATUSES,
  type JobEvent,
  type JobRequest,
  type JobStatus,
  type PageRequest,
  type TrainingService,
} from './types.js';

export interface TrainingServiceOptions extends Omit<SupervisorOptions, 'folder' | 'now'> {
  /** The registry's database. One connection for all: a second one would wait for the first one's transactions and block the thread. */
  readonly database: TrainingDatabase;
  /** Holds `files/` and `training/`; made where it is missing. */
  readonly dataDir: string;
  readonly base: { readonly name: string; readonly baseHash: string; readonly contextLength: number };
  /** Unix milliseconds. */
  readonly clock: () => number;
}

const LEASE_MS = 60_000;
const MAX_ATTEMPTS = 3;
/** A follower reads this many events at once. */
const FOLLOW_PAGE = 500;
/** Leaves room for the names of checkpoints. */
const MAX_STEP = 999_999_999;

/** Takes up what waits in the queue at once. */
export async function createTrainingService(options: TrainingServiceOptions): Promise<TrainingService> {
  const { database: db, dataDir, clock, base, log } = options;
  await migrateTraining(db);
  const bytes = await openFileBytes(join(dataDir, 'files'));
  const folder = join(dataDir, 'training');
  await mkdir(folder, { recursive: true });
  const files = createFiles(db, bytes, clock);
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
  return new LocalTrainingService(options, { files, journal, records, queue, supervisor });
}

interface Parts {
  readonly files: FileShelf;
  readonly journal: Journal;
  readonly records: Records;
  readonly queue: JobQueue;
  readonly supervisor: Supervisor;
}

class LocalTrainingService implements TrainingService {
  readonly files: FileShelf;
  readonly #options: TrainingServiceOptions;
  readonly #parts: Parts;
  readonly #closing = new AbortController();

  constructor(options: TrainingServiceOptions, parts: Parts) {
    this.files = parts.files;
    this.#options = options;
    this.#parts = parts;
  }

  async create(request: JobRequest): Promise<Job> {
    this.#checkOpen();
    const { base } = this.#options;
    if (request.adapterName !== null) this.#checkName(request.adapterName);
    const { queue, journal, supervisor } = this.#parts;
    const row = await this.files.whileKept(async () => {
      const training = await this.#examples(request.trainingFile, 'trainingFile');
      const validation =
        request.validationFile === null
          ? null
          : await this.#examples(request.validationFile, 'validationFile');
      const { options, learningRateMultiplier } = resolveOptions(
        request.choices,
        training.num_lines,
        base.contextLength,
      );
      const id = newId('ftjob');
      return queue.add({
        id,
        base: base.name,
        model_name: request.adapterName ?? modelName(base.name, request.suffix, id),
        metadata: JSON.stringify(request.metadata),
        options: JSON.stringify(options),
        learning_rate_multiplier: learningRateMultiplier,
        training_file: training.id,
        training_hash: training.hash,
        training_filename: training.filename,
        validation_file: validation?.id ?? null,
        validation_hash: validation?.hash ?? null,
        validation_filename: validation?.filename ?? null,
      });
    });
    journal.record(row.id, { type: 'message', level: 'info', message: `Created fine-tuning job: ${row.id}` });
    await journal.flush();
    supervisor.wake();
    return toJob(row);
  }

  async get(id: string): Promise<Job> {
    return toJob(await this.#find(id));
  }

  async list(request: Parameters<TrainingService['list']>[0]) {
    const { items, hasMore } = await this.#parts.queue.list(request);
    return { items: items.map(toJob), hasMore };
  }

  async cancel(id: string): Promise<Job> {
    const job = await this.#change(id, 'cancel', 'Cancelling was asked for');
    await this.files.release([job.training_hash, job.validation_hash]);
    return toJob(job);
  }

  async pause(id: string): Promise<Job> {
    return toJob(await this.#change(id, 'pause', 'Pausing was asked for'));
  }

  async resume(id: string): Promise<Job> {
    const job = toJob(await this.#change(id, 'resume', 'Resuming was asked for'));
    this.#parts.supervisor.wake();
    return job;
  }

  async events(id: string, page: PageRequest) {
    await this.#find(id);
    await this.#parts.journal.flush();
    return this.#parts.records.events(id, page);
  }

  async *follow(
    id: string,
    after: string | null,
    signal: AbortSignal,
  ): AsyncGenerator<JobEvent, void, undefined> {
    const { journal, records } = this.#parts;
    const gone = AbortSignal.any([signal, this.#closing.signal]);
    await this.#find(id);
    let place = await records.placeAfter(id, after);
    while (!gone.aborted) {
      const changed = journal.changed(id, gone);
      // Asked before the events are read: those of an ended job are all there.
      const isLast = hasEnded(await this.#find(id));
      const { events, next } = await records.eventsFrom(id, place, FOLLOW_PAGE);
      yield* events;
      place = next;
      if (events.length === FOLLOW_PAGE) continue;
      if (isLast) return;
      await changed;
    }
  }

  async checkpoints(id: string, page: PageRequest) {
    const job = await this.#find(id);
    await this.#parts.journal.flush();
    return this.#parts.records.checkpoints(id, job.model_name, page);
  }

  async countByStatus() {
    const counts = await this.#parts.queue.countByStatus();
    const entries = JOB_STATUSES.map((status) => [status, counts.get(status) ?? 0] as const);
    return Object.fromEntries(entries) as Record<JobStatus, number>;
  }

  figures() {
    return this.#parts.supervisor.figures();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#parts.supervisor.close();
    await this.#parts.journal.close();
  }

  async #find(id: string): Promise<StoredJob> {
    const job = await this.#parts.queue.get(id);
    if (job !== null) return job;
    throw new GatewayError('not_found', `No fine-tuning job \`${id}\` exists for this base`, {
      param: 'fine_tuning_job_id',
    });
  }

  /** The event comes first, so that whoever sees the new state finds it. */
  async #change(id: string, wish: 'cancel' | 'pause' | 'resume', message: string): Promise<StoredJob> {
    this.#checkOpen();
    const { queue, journal, supervisor } = this.#parts;
    const before = await this.#find(id);
    if (visibleStatus(before) === WISHED[wish]) return before;
    if (!hasEnded(before)) {
      journal.record(id, { type: 'message', level: 'info', message });
      await journal.flush();
    }
    const job = hasEnded(before) ? null : await queue[wish](id);
    if (job === null) throw hasEndedError(id, visibleStatus(await this.#find(id)), wish);
    supervisor.tell(id, wish === 'resume' ? 'run' : wish);
    journal.announce(id);
    return job;
  }

  /** A file that a job can be made with. Throws invalid_value. */
  async #examples(id: string, param: string): Promise<StoredFile> {
    const file = await this.files.find(id);
    if (file?.purpose === 'fine-tune') return file;
    const found = file === null ? 'which does not exist' : `whose purpose is ${file.purpose}`;
    throw new GatewayError(
      'invalid_value',
      `Expected \`${param}\` to be the id of a file with purpose fine-tune, got \`${id}\`, ${found}`,
      { param },
    );
  }

  #checkName(name: string): void {
    try {
      checkAdapterName(name, this.#options.base.name);
      checkAdapterName(checkpointName(name, MAX_STEP), this.#options.base.name);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      throw new GatewayError('invalid_value', error.message, { param: 'adapterName', cause: error });
    }
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted)
      throw new GatewayError('unavailable', 'The gateway is shutting down; try again');
  }
}

/** The state that a wish leads to; in it, the wish is granted already. */
const WISHED = { cancel: 'cancelled', pause: 'paused', resume: null } as const;

function hasEndedError(id: string, status: JobStatus, wish: string): GatewayError {
  return new GatewayError(
    'invalid_value',
    `Expected a job that has not ended and is not about to, to ${wish} it; ${id} is ${status}`,
    { param: 'fine_tuning_job_id' },
  );
}

/** The process that an owner's name tells of, or its worker. Another machine's cannot be seen. */
function mayLive(owner: string, workerPid: number | null): boolean {
  const [host, pid] = owner.split('/');
  if (host !== hostname()) return true;
  // A container begins again with the same process id: who has ours, and another name, has gone.
  const isServerLeft = Number(pid) !== process.pid && isRunning(Number(pid));
  return isServerLeft || (workerPid !== null && isRunning(workerPid));
}
