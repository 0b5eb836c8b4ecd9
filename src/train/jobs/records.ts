// What jobs have told, read back: pages of events and checkpoints, and a job's events as they come.

import type { Selectable } from 'kysely';
import type { TrainingEvent } from '../events.js';
import { checkpointName } from './ids.js';
import { pageOf, seqAfter } from './paging.js';
import type { CheckpointTable, EventTable, TrainingDatabase } from './tables.js';
import type { JobCheckpoint, JobEvent, Page, PageRequest } from './types.js';

export type StoredCheckpoint = Selectable<CheckpointTable>;
type StoredEvent = Selectable<EventTable>;

export interface Records {
  events(jobId: string, page: PageRequest): Promise<Page<JobEvent>>;
  /** Oldest first, at most `limit`; `next` is where to go on. */
  eventsFrom(
    jobId: string,
    seq: number,
    limit: number,
  ): Promise<{ readonly events: readonly JobEvent[]; readonly next: number }>;
  /** The place after an event; 0 is before the first. Throws not_found. */
  placeAfter(jobId: string, eventId: string | null): Promise<number>;
  checkpoints(jobId: string, modelName: string, page: PageRequest): Promise<Page<JobCheckpoint>>;
  storedCheckpoints(jobId: string): Promise<readonly StoredCheckpoint[]>;
  setServed(checkpointId: string): Promise<void>;
}

export function createRecords(db: TrainingDatabase): Records {
  const events = (jobId: string) => db.selectFrom('training_events').selectAll().where('job_id', '=', jobId);
  const checkpoints = (jobId: string) =>
    db.selectFrom('training_checkpoints').selectAll().where('job_id', '=', jobId);
  const eventPlace = (jobId: string, after: string | null) =>
    seqAfter(after, (id) => events(jobId).where('id', '=', id).executeTakeFirst());

  return {
    async events(jobId, page) {
      const seq = await eventPlace(jobId, page.after);
      let query = events(jobId).orderBy('seq', 'desc');
      if (seq !== null) query = query.where('seq', '<', seq);
      return pageOf(page, (limit) => query.limit(limit).execute(), toEvent);
    },
    async eventsFrom(jobId, seq, limit) {
      const rows = await events(jobId).where('seq', '>', seq).orderBy('seq').limit(limit).execute();
      return { events: rows.map(toEvent), next: rows.at(-1)?.seq ?? seq };
    },
    async placeAfter(jobId, eventId) {
      return (await eventPlace(jobId, eventId)) ?? 0;
    },
    async checkpoints(jobId, modelName, page) {
      const seq = await seqAfter(page.after, (id) =>
        checkpoints(jobId).where('id', '=', id).executeTakeFirst(),
      );
      let query = checkpoints(jobId).orderBy('seq', 'desc');
      if (seq !== null) query = query.where('seq', '<', seq);
      return pageOf(
        page,
        (limit) => query.limit(limit).execute(),
        (row) => toCheckpoint(row, modelName),
      );
    },
    storedCheckpoints: (jobId) => checkpoints(jobId).orderBy('step').execute(),
    async setServed(checkpointId) {
      await db
        .updateTable('training_checkpoints')
        .set({ served: 1 })
        .where('id', '=', checkpointId)
        .execute();
    },
  };
}

function toEvent(row: StoredEvent): JobEvent {
  // Written by the journal and by nobody else.
  return { id: row.id, createdAt: row.created_at, event: JSON.parse(row.event) as TrainingEvent };
}

function toCheckpoint(row: StoredCheckpoint, modelName: string): JobCheckpoint {
  return {
    id: row.id,
    jobId: row.job_id,
    createdAt: row.created_at,
    step: row.step,
    trainLoss: row.train_loss,
    evalLoss: row.eval_loss,
    modelName: checkpointName(modelName, row.step),
    isServed: row.served === 1,
  };
}
