// One tenant's view of training: every method looks for the job among the tenant's own first, and a job is made for the tenant alone.

import { checkAdapterName } from '../../adapters/adapter-name.js';
import { GatewayError } from '../../errors.js';
import type { CheckQuota } from '../../tenants/check-quota.js';
import type { FileShelf, StoredFile } from './files.js';
import { checkpointName, modelName, newId } from './ids.js';
import { resolveOptions } from './job-options.js';
import { hasEnded, type StoredJob, toJob, visibleStatus } from './job-state.js';
import type { Journal } from './journal.js';
import type { JobQueue } from './queue.js';
import type { Records } from './records.js';
import type { Supervisor } from './supervisor.js';
import type { JobRequest, JobStatus, TenantTraining } from './types.js';

/** What a tenant's view works with. */
export interface TrainingParts {
  readonly base: { readonly name: string; readonly baseHash: string; readonly contextLength: number };
  readonly files: FileShelf;
  readonly journal: Journal;
  readonly records: Records;
  readonly queue: JobQueue;
  readonly supervisor: Supervisor;
  readonly checkQuota: CheckQuota;
  /** Aborted once the service closes. */
  readonly closing: AbortSignal;
}

/** A follower reads this many events at once. */
const FOLLOW_PAGE = 500;
/** Leaves room for the names of checkpoints. */
const MAX_STEP = 999_999_999;

export function tenantTraining(parts: TrainingParts, tenant: string): TenantTraining {
  const { files, journal, records, queue, supervisor, closing } = parts;

  async function find(id: string): Promise<StoredJob> {
    const job = await queue.get(id);
    if (job?.tenant === tenant) return job;
    throw new GatewayError('not_found', `No fine-tuning job \`${id}\` exists for this base`, {
      param: 'fine_tuning_job_id',
    });
  }

  /** The event comes first, so that whoever sees the new state finds it. */
  async function change(
    id: string,
    wish: 'cancel' | 'pause' | 'resume',
    message: string,
  ): Promise<StoredJob> {
    checkOpen(closing);
    const before = await find(id);
    if (visibleStatus(before) === WISHED[wish]) return before;
    if (!hasEnded(before)) {
      journal.record(id, { type: 'message', level: 'info', message });
      await journal.flush();
    }
    const job = hasEnded(before) ? null : await queue[wish](id);
    if (job === null) throw hasEndedError(id, visibleStatus(await find(id)), wish);
    supervisor.tell(id, wish === 'resume' ? 'run' : wish);
    journal.announce(id);
    return job;
  }

  return {
    files: files.of(tenant),
    async create(request) {
      checkOpen(closing);
      if (request.adapterName !== null) checkPublishedName(request.adapterName, parts.base.name);
      const row = await addJob(parts, tenant, request);
      const message = `Created fine-tuning job: ${row.id}`;
      journal.record(row.id, { type: 'message', level: 'info', message });
      await journal.flush();
      supervisor.wake();
      return toJob(row);
    },
    async get(id) {
      return toJob(await find(id));
    },
    async list(request) {
      const { items, hasMore } = await queue.list(tenant, request);
      return { items: items.map(toJob), hasMore };
    },
    async cancel(id) {
      const job = await change(id, 'cancel', 'Cancelling was asked for');
      await files.release([job.training_hash, job.validation_hash]);
      return toJob(job);
    },
    async pause(id) {
      return toJob(await change(id, 'pause', 'Pausing was asked for'));
    },
    async resume(id) {
      const job = toJob(await change(id, 'resume', 'Resuming was asked for'));
      supervisor.wake();
      return job;
    },
    async events(id, page) {
      await find(id);
      await journal.flush();
      return records.events(id, page);
    },
    async *follow(id, after, signal) {
      const gone = AbortSignal.any([signal, closing]);
      await find(id);
      let place = await records.placeAfter(id, after);
      while (!gone.aborted) {
        const changed = journal.changed(id, gone);
        // Asked before the events are read: those of an ended job are all there.
        const isLast = hasEnded(await find(id));
        const { events, next } = await records.eventsFrom(id, place, FOLLOW_PAGE);
        yield* events;
        place = next;
        if (events.length === FOLLOW_PAGE) continue;
        if (isLast) return;
        await changed;
      }
    },
    async checkpoints(id, page) {
      const job = await find(id);
      await journal.flush();
      return records.checkpoints(id, job.model_name, page);
    },
  };
}

/** While no file's bytes go, and nobody else adds a job that the quota would have to count. */
function addJob(
  { base, files, queue, checkQuota }: TrainingParts,
  tenant: string,
  request: JobRequest,
): Promise<StoredJob> {
  return files.whileKept(async () => {
    const training = await examples(files, tenant, request.trainingFile, 'trainingFile');
    const validation =
      request.validationFile === null
        ? null
        : await examples(files, tenant, request.validationFile, 'validationFile');
    const { options, learningRateMultiplier } = resolveOptions(
      request.choices,
      training.num_lines,
      base.contextLength,
    );
    await checkQuota(tenant, 'jobs', 1);
    const id = newId('ftjob');
    return queue.add({
      id,
      tenant,
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
}

/** A file that a job can be made with. Throws invalid_value. */
async function examples(files: FileShelf, tenant: string, id: string, param: string): Promise<StoredFile> {
  const file = await files.find(tenant, id);
  if (file?.purpose === 'fine-tune') return file;
  const found = file === null ? 'which does not exist' : `whose purpose is ${file.purpose}`;
  throw new GatewayError(
    'invalid_value',
    `Expected \`${param}\` to be the id of a file with purpose fine-tune, got \`${id}\`, ${found}`,
    { param },
  );
}

function checkPublishedName(name: string, baseName: string): void {
  try {
    checkAdapterName(name, baseName);
    checkAdapterName(checkpointName(name, MAX_STEP), baseName);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    throw new GatewayError('invalid_value', error.message, { param: 'adapterName', cause: error });
  }
}

function checkOpen(closing: AbortSignal): void {
  if (closing.aborted) throw new GatewayError('unavailable', 'The gateway is shutting down; try again');
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
