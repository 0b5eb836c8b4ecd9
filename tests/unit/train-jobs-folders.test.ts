// Folders of ended jobs: they go once they are old, whatever a crash left of an earlier sweep, and take nothing with them that is still asked for.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sweepJobFolders } from '../../src/train/jobs/job-folders.js';
import type { StoredJob } from '../../src/train/jobs/job-state.js';
import { createQueue } from '../../src/train/jobs/queue.js';
import { migrateTraining } from '../../src/train/jobs/tables.js';
import { trainingLines } from '../helpers/fake-training-run.js';
import {
  addFile,
  isOver,
  jobRequest,
  memoryDatabase,
  newJob,
  testTraining,
  untilJob,
} from '../helpers/training-jobs.js';

const DAY = 24 * 60 * 60_000;
const NOW = 100 * DAY;

/** Jobs as rows, each with a folder that has a checkpoint, an adapter and a log. */
async function jobsWithFolders(t: TestContext, jobs: Readonly<Record<string, Partial<StoredJob>>>) {
  const folder = mkdtempSync(join(tmpdir(), 'folders-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const db = memoryDatabase();
  await migrateTraining(db);
  const queue = createQueue(db, {
    baseHash: 'base',
    owner: 'one',
    mayLive: () => false,
    leaseMs: 1,
    maxAttempts: 3,
    clock: () => NOW,
  });
  for (const [id, changes] of Object.entries(jobs)) {
    await queue.add(newJob(id));
    await db.updateTable('training_jobs').set(changes).where('id', '=', id).execute();
    for (const part of ['checkpoints/step-00000001', 'adapter']) {
      mkdirSync(join(folder, id, part), { recursive: true });
      writeFileSync(join(folder, id, part, 'file'), 'x');
    }
    writeFileSync(join(folder, id, 'trainer_log.jsonl'), '{}\n');
  }
  const sweep = () => sweepJobFolders(db, { folder, keepMs: 7 * DAY, clock: () => NOW });
  return { folder, sweep };
}

const endedDaysAgo = (days: number, status: StoredJob['status']) => ({
  status,
  finished_at: (NOW - days * DAY) / 1000,
});

test('only folders of jobs that ended long enough ago are removed', async (t) => {
  const { folder, sweep } = await jobsWithFolders(t, {
    succeeded: endedDaysAgo(8, 'succeeded'),
    failed: endedDaysAgo(7, 'failed'),
    cancelled: endedDaysAgo(30, 'cancelled'),
    recent: endedDaysAgo(6, 'succeeded'),
    paused: { status: 'paused', created_at: 0 },
    // Cancelled, and its worker has not let go yet.
    leaving: { ...endedDaysAgo(30, 'running'), wanted: 'cancel' },
    queued: { status: 'queued' },
  });
  mkdirSync(join(folder, 'of-another-database'));
  await sweep();
  assert.deepEqual(readdirSync(folder), ['leaving', 'of-another-database', 'paused', 'queued', 'recent']);
  assert(existsSync(join(folder, 'paused', 'checkpoints', 'step-00000001', 'file')));
});

test('the base that a full fine-tuning made stays, and everything else of its run goes', async (t) => {
  const full = { ...endedDaysAgo(8, 'succeeded'), result_folder: '/somewhere/full/adapter' };
  const { folder, sweep } = await jobsWithFolders(t, { full });
  await sweep();
  assert.deepEqual(readdirSync(join(folder, 'full')), ['adapter']);
  assert(existsSync(join(folder, 'full', 'adapter', 'file')));
});

test('what a crash left of a sweep is removed by the next one', async (t) => {
  const { folder, sweep } = await jobsWithFolders(t, { gone: endedDaysAgo(8, 'failed') });
  rmSync(join(folder, 'gone'), { recursive: true });
  mkdirSync(join(folder, '.tmp-old-gone', 'checkpoints'), { recursive: true });
  await sweep();
  await sweep();
  assert.deepEqual(readdirSync(folder), []);
});

test('a job whose folder is gone still shows its events, its checkpoints, its log and its model', async (t) => {
  const first = await testTraining(t);
  const { training, dataDir, database, adapters } = first;
  const job = await training.create(jobRequest((await addFile(training, trainingLines(4))).id));
  const done = await untilJob(training, job.id, isOver);
  const page = { after: null, limit: 50 };
  const before = [await training.events(job.id, page), await training.checkpoints(job.id, page)];
  assert(existsSync(join(dataDir, 'training', job.id)));
  const later = { folder: join(dataDir, 'training'), keepMs: DAY, clock: () => first.time.nowMs + DAY };
  await sweepJobFolders(database, later);
  assert(!existsSync(join(dataDir, 'training', job.id)));
  assert.deepEqual([await training.events(job.id, page), await training.checkpoints(job.id, page)], before);
  assert((await training.checkpoints(job.id, page)).items.every(({ isServed }) => isServed));
  assert((await training.files.read(done.resultFile!)) !== null);
  assert(adapters.registered.some(({ name }) => name === done.fineTunedModel));
});
