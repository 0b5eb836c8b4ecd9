// Files of examples: one copy of equal bytes, kept while a row or a job that goes on uses them; nothing half-written is ever seen.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { openFileBytes } from '../../src/train/jobs/file-bytes.js';
import { runTraining, trainingLines } from '../helpers/fake-training-run.js';
import { addFile, isOver, jobRequest, testTraining, untilJob } from '../helpers/training-jobs.js';

const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

test('equal bytes are stored once, and go with the last file', async (t) => {
  const { training, dataDir } = await testTraining(t);
  const stored = join(dataDir, 'files', hashOf('same'));
  const [one, two] = [await addFile(training, 'same', 'a.jsonl'), await addFile(training, 'same', 'b.jsonl')];
  assert.notEqual(one.id, two.id);
  assert.deepEqual(readdirSync(join(dataDir, 'files')), [hashOf('same')]);
  assert.equal(await training.files.remove(one.id), true);
  assert.equal(readFileSync(stored, 'utf8'), 'same');
  assert.equal(await training.files.remove(two.id), true);
  assert(!existsSync(stored));
  assert.equal(await training.files.remove(two.id), false);
});

test('a job keeps the bytes of a deleted file until it has ended', async (t) => {
  const { training, dataDir } = await testTraining(t);
  const text = trainingLines(4, { do: 'wait', step: 2 });
  const file = await addFile(training, text);
  const job = await training.create(jobRequest(file.id));
  await training.files.remove(file.id);
  const stored = join(dataDir, 'files', hashOf(text));
  assert(existsSync(stored));
  await untilJob(training, job.id, ({ step }) => step === 1);
  writeFileSync(join(dataDir, 'training', job.id, 'go'), '');
  assert.equal((await untilJob(training, job.id, isOver)).status, 'succeeded');
  await training.close();
  assert(!existsSync(stored));
});

test('lists page in both directions and by purpose', async (t) => {
  const { training } = await testTraining(t);
  const ids: string[] = [];
  for (const text of ['1', '2', '3']) ids.push((await addFile(training, text)).id);
  const list = async (changes: object) => {
    const request = { after: null, limit: 10, purpose: null, order: 'desc' as const, ...changes };
    const { items, hasMore } = await training.files.list(request);
    return [items.map((file) => ids.indexOf(file.id)), hasMore];
  };
  assert.deepEqual(await list({}), [[2, 1, 0], false]);
  assert.deepEqual(await list({ order: 'asc', limit: 2 }), [[0, 1], true]);
  assert.deepEqual(await list({ order: 'asc', limit: 2, after: ids[1] }), [[2], false]);
  assert.deepEqual(await list({ after: ids[1] }), [[0], false]);
  assert.deepEqual(await list({ purpose: 'fine-tune-results' }), [[], false]);
});

test('lines that are not blank are counted, however the bytes are cut', async (t) => {
  const bytes = await openFileBytes(temporary(t));
  async function* inPieces(text: string, size: number) {
    for (let at = 0; at < text.length; at += size) yield Buffer.from(text.slice(at, at + size));
  }
  for (const [text, count] of [
    ['', 0],
    ['\n \r\n\t\n', 0],
    ['{}\r\n\n{}\n{}', 3],
  ] as const)
    for (const size of [1, 2, 100])
      assert.equal((await bytes.put(inPieces(text, size))).numLines, count, JSON.stringify(text));
});

test('an upload that breaks off leaves nothing', async (t) => {
  const folder = temporary(t);
  const bytes = await openFileBytes(folder);
  async function* broken() {
    yield Buffer.from('half');
    throw new Error('gone');
  }
  await assert.rejects(bytes.put(broken()), /gone/);
  assert.deepEqual(readdirSync(folder), []);
});

test('a sweep removes what a crash left, and spares what another process may be writing', async (t) => {
  const folder = temporary(t);
  const bytes = await openFileBytes(folder);
  const [used, unused, young] = ['used', 'unused', 'young'].map(hashOf);
  const ended = '.tmp-4194304-x';
  const running = `.tmp-${process.pid}-x`;
  for (const name of [used!, unused!, young!, ended, running]) writeFileSync(join(folder, name), '');
  for (const name of [used!, unused!]) utimesSync(join(folder, name), 0, 0);
  await bytes.sweep((hash) => hash === used, 60_000, Date.now());
  assert.deepEqual(new Set(readdirSync(folder)), new Set([running, used, young]));
});

test('files and jobs are there after a restart', async (t) => {
  const dataDir = temporary(t);
  const first = await testTraining(t, { dataDir, run: runTraining });
  const file = await addFile(first.training, trainingLines(2));
  const job = await first.training.create(jobRequest(file.id));
  await untilJob(first.training, job.id, isOver);
  await first.training.close();
  const second = await testTraining(t, { dataDir, database: first.database });
  assert.deepEqual(await second.training.files.get(file.id), file);
  assert.equal((await second.training.get(job.id)).status, 'succeeded');
});

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'files-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('quotas are asked before a job or a file is kept, and what is refused leaves nothing', async (t) => {
  const asked: unknown[] = [];
  let isFull = false;
  const { training, dataDir } = await testTraining(t, {
    checkQuota: async (...question) => {
      asked.push(question);
      if (isFull) throw new GatewayError('not_permitted', 'full');
    },
  });
  const text = trainingLines(2, { do: 'wait', step: 1 });
  const file = await addFile(training, text);
  const job = await training.create(jobRequest(file.id));
  assert.deepEqual(asked, [
    ['default', 'bytes', text.length],
    ['default', 'jobs', 1],
  ]);
  assert.deepEqual(await training.holdings('default'), { numJobs: 1, sizeBytes: text.length });
  assert.deepEqual(await training.holdings('acme'), { numJobs: 0, sizeBytes: 0 });
  isFull = true;
  await assert.rejects(addFile(training, 'more'), { message: 'full' });
  await assert.rejects(training.create(jobRequest(file.id)), { message: 'full' });
  assert.deepEqual(readdirSync(join(dataDir, 'files')), [hashOf(text)]);
  await training.cancel(job.id);
  assert.equal((await training.holdings('default')).numJobs, 0);
});

test('equal bytes of two tenants are stored once, and kept for the one when the other deletes its file', async (t) => {
  const { training, dataDir } = await testTraining(t);
  const [acme, bolt] = [training.of('acme').files, training.of('bolt').files];
  const add = (files: typeof acme) => files.add('a.jsonl', 'fine-tune', new Blob(['same']).stream());
  const [one, two] = [await add(acme), await add(bolt)];
  assert.equal(await bolt.remove(one.id), false);
  assert.equal(await acme.remove(one.id), true);
  assert.deepEqual(readdirSync(join(dataDir, 'files')), [hashOf('same')]);
  assert.deepEqual(await bolt.get(two.id), two);
});
