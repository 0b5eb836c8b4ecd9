// What running jobs tell: events, checkpoints and how far they are, written to the database in batches, so that a step costs no
// synchronous write of its own. A crash loses at most the last interval; what the run itself needs to go on is in its folder.

import { createSerial } from '../../adapters/serial.js';
import type { TrainingEvent } from '../events.js';
import { newId } from './ids.js';
import type { TrainingDatabase } from './tables.js';

export interface Journal {
  record(jobId: string, event: TrainingEvent): void;
  /** Everything recorded so far is durable on return. */
  flush(): Promise<void>;
  /** Resolves after the next change of the job's events or state, or at the signal. To be called before reading, lest one be missed. */
  changed(jobId: string, signal: AbortSignal): Promise<void>;
  /** Wakes those who wait for a change. */
  announce(jobId: string): void;
  close(): Promise<void>;
}

interface Entry {
  readonly jobId: string;
  readonly event: TrainingEvent;
  readonly createdAt: number;
}

const FLUSH_INTERVAL_MS = 250;

/** @param onFailure told where a batch could not be written; its entries are kept for the next attempt */
export function createJournal(
  db: TrainingDatabase,
  clock: () => number,
  onFailure: (error: unknown) => void,
): Journal {
  const waiting = new Map<string, Set<() => void>>();
  const alone = createSerial();
  let entries: Entry[] = [];
  let timer: NodeJS.Timeout | null = null;

  function announce(jobId: string): void {
    const wakers = waiting.get(jobId) ?? [];
    waiting.delete(jobId);
    for (const wake of wakers) wake();
  }

  async function writeBatch(): Promise<void> {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    const batch = entries;
    if (batch.length === 0) return;
    entries = [];
    try {
      await write(db, batch);
    } catch (error) {
      entries = [...batch, ...entries];
      throw error;
    }
    for (const jobId of new Set(batch.map((entry) => entry.jobId))) announce(jobId);
  }

  const flush = () => alone(writeBatch);

  return {
    announce,
    flush,
    record(jobId, event) {
      entries.push({ jobId, event, createdAt: Math.floor(clock() / 1000) });
      if (event.type === 'checkpoint') return void flush().catch(onFailure);
      timer ??= setTimeout(() => void flush().catch(onFailure), FLUSH_INTERVAL_MS);
    },
    changed(jobId, signal) {
      return new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const wakers = waiting.get(jobId) ?? new Set();
        waiting.set(jobId, wakers);
        const wake = () => {
          signal.removeEventListener('abort', wake);
          wakers.delete(wake);
          resolve();
        };
        wakers.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    },
    async close() {
      await flush();
      for (const jobId of waiting.keys()) announce(jobId);
    },
  };
}

async function write(db: TrainingDatabase, batch: readonly Entry[]): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    for (const { jobId, event, createdAt } of batch) {
      await transaction
        .insertInto('training_events')
        .values({ id: newId('ftevent'), created_at: createdAt, job_id: jobId, event: JSON.stringify(event) })
        .execute();
      if (event.type === 'step') await setProgress(transaction, jobId, event, createdAt);
      if (event.type === 'checkpoint') await addCheckpoint(transaction, jobId, event, createdAt);
    }
  });
}

type Of<T extends TrainingEvent['type']> = Extract<TrainingEvent, { readonly type: T }>;

/** A step that is run again after a crash does not count its tokens again. */
async function setProgress(
  db: TrainingDatabase,
  jobId: string,
  event: Of<'step'>,
  createdAt: number,
): Promise<void> {
  await db
    .updateTable('training_jobs')
    .set((column) => ({
      total_steps: event.totalSteps,
      estimated_finish: finite(createdAt + Math.ceil(event.remainingS)),
      trained_tokens: column
        .case()
        .when('step', '<', event.step)
        .then(column('trained_tokens', '+', event.numSupervised))
        .else(column.ref('trained_tokens'))
        .end(),
      step: column.fn<number>('max', ['step', column.val(event.step)]),
    }))
    .where('id', '=', jobId)
    .where('status', '=', 'running')
    .execute();
}

/** SQLite has no NaN. */
function finite(value: number | null): number | null {
  return Number.isFinite(value) ? value : null;
}

/** Progress: workers that died before it are forgotten. */
async function addCheckpoint(
  db: TrainingDatabase,
  jobId: string,
  { step, path, trainLoss, evalLoss }: Of<'checkpoint'>,
  createdAt: number,
): Promise<void> {
  const values = { path, train_loss: finite(trainLoss), eval_loss: finite(evalLoss) };
  await db
    .insertInto('training_checkpoints')
    .values({ ...values, id: newId('ftckpt'), created_at: createdAt, job_id: jobId, step, served: 0 })
    .onConflict((conflict) => conflict.columns(['job_id', 'step']).doUpdateSet(values))
    .execute();
  await db
    .updateTable('training_jobs')
    .set({ attempts: 1 })
    .where('id', '=', jobId)
    .where('status', '=', 'running')
    .execute();
}
