// The queue's rows: who gets which job, whose job is given back, and what becomes of wishes that come at any time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { visibleStatus } from '../../src/train/jobs/job-state.js';
import { createQueue } from '../../src/train/jobs/queue.js';
import { migrateTraining, type TrainingDatabase } from '../../src/train/jobs/tables.js';
import { memoryDatabase, newJob } from '../helpers/training-jobs.js';

const LEASE_MS = 60_000;
const PUBLISHED = { kind: 'succeeded', fineTunedModel: 'm', resultFolder: null } as const;

async function openQueues() {
  const db: TrainingDatabase = memoryDatabase();
  await migrateTraining(db);
  const time = { nowMs: 1_000_000 };
  const living = new Set(['one', 'two']);
  const queue = (owner: string, baseHash = 'base') =>
    createQueue(db, {
      baseHash,
      owner,
      mayLive: (name) => living.has(name),
      leaseMs: LEASE_MS,
      maxAttempts: 3,
      clock: () => time.nowMs,
    });
  const age = (id: string) => db.updateTable('training_jobs').set({ step: 5 }).where('id', '=', id).execute();
  return { db, time, living, queue, age };
}

test('jobs go out oldest first, each to one server', async () => {
  const { queue } = await openQueues();
  const [one, two] = [queue('one'), queue('two')];
  for (const id of ['a', 'b', 'c']) await one.add(newJob(id));
  const taken = [await one.claim(), await two.claim()].map((job) => job?.id);
  assert.deepEqual(taken, ['a', 'b']);
  assert.equal((await one.get('c'))!.status, 'queued');
});

test('jobs belong to a base', async () => {
  const { queue } = await openQueues();
  await queue('one').add(newJob('a'));
  const other = queue('two', 'other base');
  assert.equal(await other.claim(), null);
  assert.equal(await other.get('a'), null);
  assert.equal(await other.cancel('a'), null);
  assert.deepEqual(await other.list('default', { after: null, limit: 9, metadata: null }), {
    items: [],
    hasMore: false,
  });
});

test('a job whose server fell silent goes to another, and the first one is told', async () => {
  const { queue, time } = await openQueues();
  const [one, two] = [queue('one'), queue('two')];
  await one.add(newJob('a'));
  await one.claim();
  time.nowMs += LEASE_MS - 1;
  assert.equal(await two.claim(), null);
  assert.equal(await one.renew('a'), true);
  time.nowMs += LEASE_MS;
  assert.equal(await two.claim(), null, 'the sign of life counts');
  time.nowMs += 1;
  assert.equal((await two.claim())!.id, 'a');
  assert.equal(await one.renew('a'), false);
  assert.equal(await one.settle('a', PUBLISHED), null);
  assert.equal((await two.settle('a', PUBLISHED))!.status, 'succeeded');
});

test('a job of a server that is known to have ended is given back at once', async () => {
  const { queue, living } = await openQueues();
  await queue('one').add(newJob('a'));
  await queue('one').claim();
  assert.equal(await queue('two').claim(), null);
  living.delete('one');
  assert.equal((await queue('two').claim())!.id, 'a');
});

test('a job that kills its workers fails after three attempts without a new checkpoint', async () => {
  const { db, queue } = await openQueues();
  const one = queue('one');
  await one.add(newJob('a'));
  for (const expected of ['queued', 'queued', 'failed']) {
    assert.equal((await one.claim())!.id, 'a');
    assert.equal((await one.settle('a', { kind: 'crashed', message: 'It died' }))!.status, expected);
  }
  const error: unknown = JSON.parse((await one.get('a'))!.error!);
  assert.deepEqual(error, {
    code: 'worker_crashed',
    message: 'It died; 3 attempts in a row brought no new checkpoint. Job a is given up',
    param: null,
  });
  assert.equal(await one.claim(), null);

  await one.add(newJob('b'));
  for (let crash = 0; crash < 5; crash++) {
    await one.claim();
    await db.updateTable('training_jobs').set({ attempts: 1 }).where('id', '=', 'b').execute();
    assert.equal(
      (await one.settle('b', { kind: 'crashed', message: '' }))!.status,
      'queued',
      'progress counts',
    );
  }
});

test('a job that is given back in order uses up no attempt', async () => {
  const { queue } = await openQueues();
  const one = queue('one');
  await one.add(newJob('a'));
  for (let round = 0; round < 9; round++) {
    assert.equal((await one.claim())!.attempts, 1);
    await one.settle('a', { kind: 'released' });
  }
});

test('what was left of ours by a failure here is found at the next look', async () => {
  const { queue } = await openQueues();
  const one = queue('one');
  await one.add(newJob('a'));
  await one.claim();
  assert.equal((await one.claim())!.attempts, 2);
});

test('wishes hold at once for who asks, and settle when the worker lets go', async () => {
  const { queue, age } = await openQueues();
  const [one, two] = [queue('one'), queue('two')];
  for (const [id, owner] of [
    ['a', one],
    ['b', two],
  ] as const) {
    await owner.add(newJob(id));
    await owner.claim();
    await age(id);
  }
  assert.equal(visibleStatus((await one.pause('a'))!), 'paused');
  assert.equal((await one.get('a'))!.status, 'running');
  assert.equal(await one.wanted('a'), 'pause');
  assert.equal((await one.settle('a', { kind: 'released' }))!.status, 'paused');
  assert.equal((await one.resume('a'))!.status, 'queued');

  const cancelled = (await one.cancel('b'))!;
  assert.deepEqual([visibleStatus(cancelled), cancelled.finished_at], ['cancelled', 1000]);
  assert.equal(await one.pause('b'), null);
  assert.equal(await one.resume('b'), null);
  assert.equal((await two.settle('b', { kind: 'crashed', message: '' }))!.status, 'cancelled');
});

test('a pause that is taken back before the worker let go leaves the job in the queue', async () => {
  const { queue } = await openQueues();
  const one = queue('one');
  await one.add(newJob('a'));
  await one.claim();
  await one.pause('a');
  await one.resume('a');
  assert.equal((await one.settle('a', { kind: 'released' }))!.status, 'queued');
});

test('a cancelled job publishes nothing, and what is being published is not cancelled', async () => {
  const { queue } = await openQueues();
  const [one, two] = [queue('one'), queue('two')];
  await one.add(newJob('a'));
  await two.claim();
  await two.cancel('a');
  assert.equal(await two.beginPublishing('a'), false);
  await one.add(newJob('b'));
  await one.claim();
  await one.pause('b');
  assert.equal(await one.beginPublishing('b'), true, 'the end was reached before the pause');
  assert.equal(await one.cancel('b'), null);
  assert.equal(await one.pause('b'), null);
  assert.equal((await one.settle('b', PUBLISHED))!.status, 'succeeded');
});

test('lists page from the newest, by metadata where that is wanted', async () => {
  const { queue } = await openQueues();
  const one = queue('one');
  const labels = ['{}', '{"team":"x"}', '{"team":"y"}', '{"team":"x","run":"2"}'];
  for (const [index, metadata] of labels.entries()) await one.add(newJob(`j${index}`, { metadata }));
  const ids = async (request: Partial<Parameters<typeof one.list>[1]>) => {
    const { items, hasMore } = await one.list('default', {
      after: null,
      limit: 9,
      metadata: null,
      ...request,
    });
    return [items.map((job) => job.id), hasMore];
  };
  assert.deepEqual(await ids({ limit: 3 }), [['j3', 'j2', 'j1'], true]);
  assert.deepEqual(await ids({ limit: 3, after: 'j1' }), [['j0'], false]);
  assert.deepEqual(await ids({ metadata: { team: 'x' } }), [['j3', 'j1'], false]);
  assert.deepEqual(await ids({ metadata: { team: 'x', run: '2' } }), [['j3'], false]);
  assert.deepEqual(await ids({ metadata: {} }), [['j0'], false]);
  assert.deepEqual(await ids({ metadata: { 'a"].x': "'; drop" } }), [[], false]);
  await assert.rejects(ids({ after: 'nobody' }), { code: 'not_found', param: 'after' });
});
