// What a job's row means: the status that people see, what it becomes when its run ends, and the job as the protocol has it.

import type { Selectable } from 'kysely';
import type { JobTable } from './tables.js';
import type { Job, JobError, JobStatus } from './types.js';

export type StoredJob = Selectable<JobTable>;

/** How a run ended; `released` gives the job back without counting an attempt. */
export type Ending =
  | {
      readonly kind: 'succeeded';
      readonly fineTunedModel: string | null;
      readonly resultFolder: string | null;
    }
  | { readonly kind: 'failed'; readonly error: JobError }
  | { readonly kind: 'crashed'; readonly message: string }
  | { readonly kind: 'released' };

/** What a running job becomes. A wish that came meanwhile goes before everything but an end that was reached. */
export function afterEnding(
  job: StoredJob,
  ending: Ending,
  maxAttempts: number,
  now: number,
): Partial<StoredJob> {
  const released = { wanted: null, owner: null, lease_until: null, worker_pid: null, estimated_finish: null };
  if (job.wanted === 'cancel')
    return { ...released, status: 'cancelled', finished_at: job.finished_at ?? now };
  switch (ending.kind) {
    case 'succeeded':
      return {
        ...released,
        status: 'succeeded',
        finished_at: now,
        fine_tuned_model: ending.fineTunedModel,
        result_folder: ending.resultFolder,
      };
    case 'failed':
      return { ...released, status: 'failed', finished_at: now, error: JSON.stringify(ending.error) };
    case 'crashed':
      if (job.attempts >= maxAttempts) {
        const message = `${ending.message}; ${job.attempts} attempts in a row brought no new checkpoint. Job ${job.id} is given up`;
        const error: JobError = { code: 'worker_crashed', message, param: null };
        return { ...released, status: 'failed', finished_at: now, error: JSON.stringify(error) };
      }
      return { ...released, status: job.wanted === 'pause' ? 'paused' : 'queued' };
    case 'released':
      return {
        ...released,
        status: job.wanted === 'pause' ? 'paused' : 'queued',
        attempts: Math.max(0, job.attempts - 1),
      };
  }
}

/** A wish holds for everyone who asks, even while the worker has not let go yet. */
export function visibleStatus(job: Pick<StoredJob, 'status' | 'wanted' | 'step'>): JobStatus {
  if (job.status !== 'running') return job.status;
  if (job.wanted === 'cancel') return 'cancelled';
  if (job.wanted === 'pause') return 'paused';
  return job.step === 0 ? 'validating' : 'running';
}

export function hasEnded(job: Pick<StoredJob, 'status' | 'wanted' | 'step'>): boolean {
  return ['succeeded', 'failed', 'cancelled'].includes(visibleStatus(job));
}

export function toJob(row: StoredJob): Job {
  return {
    id: row.id,
    status: visibleStatus(row),
    base: row.base,
    trainingFile: row.training_file,
    validationFile: row.validation_file,
    // The JSON was written by add() and settle() and by nobody else.
    metadata: JSON.parse(row.metadata) as Job['metadata'],
    options: JSON.parse(row.options) as Job['options'],
    error: row.error === null ? null : (JSON.parse(row.error) as JobError),
    learningRateMultiplier: row.learning_rate_multiplier,
    createdAt: row.created_at,
    estimatedFinish: row.estimated_finish,
    finishedAt: row.finished_at,
    step: row.step,
    totalSteps: row.total_steps,
    trainedTokens: row.trained_tokens,
    fineTunedModel: row.fine_tuned_model,
    resultFolder: row.result_folder,
    resultFile: row.result_file,
  };
}
