// The folders of jobs that have ended go after a while. Nobody needs them then: adapters and checkpoints that are served have files of
// their own, the log is a result file, and checkpoints are listed from the database. A full fine-tuning's result stays.

import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrorCode } from '../../adapters/error-code.js';
import { ADAPTER_FOLDER } from '../checkpoint.js';
import type { TrainingDatabase } from './tables.js';

export interface JobFoldersOptions {
  /** Holds a folder for each job, by its id. */
  readonly folder: string;
  /** From a job's end on. */
  readonly keepMs: number;
  /** Unix milliseconds. */
  readonly clock: () => number;
}

/** Renamed to this first, so that a crash in between leaves no half of a job's folder under its name. */
const DOOMED = '.tmp-old-';

/** Folders that are of no job in this database are left alone. Again is harmless, as are several processes at once. */
export async function sweepJobFolders(
  db: TrainingDatabase,
  { folder, keepMs, clock }: JobFoldersOptions,
): Promise<void> {
  const names = await readdir(folder);
  for (const name of names) if (name.startsWith(DOOMED)) await removeAll(join(folder, name));
  const expired = await db
    .selectFrom('training_jobs')
    .select(['id', 'result_folder'])
    .where('status', 'in', ['succeeded', 'failed', 'cancelled'])
    .where('finished_at', '<=', (clock() - keepMs) / 1000)
    .execute();
  for (const { id, result_folder: result } of expired)
    if (names.includes(id)) await (result === null ? discard(folder, id) : keepResult(join(folder, id)));
}

async function discard(folder: string, id: string): Promise<void> {
  const doomed = join(folder, `${DOOMED}${id}`);
  try {
    await rename(join(folder, id), doomed);
  } catch (error) {
    // Another process was faster.
    if (hasErrorCode(error, 'ENOENT')) return;
    throw error;
  }
  await removeAll(doomed);
}

async function keepResult(jobFolder: string): Promise<void> {
  for (const name of await readdir(jobFolder))
    if (name !== ADAPTER_FOLDER) await removeAll(join(jobFolder, name));
}

function removeAll(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true });
}
