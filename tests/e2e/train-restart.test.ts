// What becomes of jobs when the server goes: in order, and by kill -9, with one job running and one in the queue.
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';
import { BASE, greedyTokens, referenceCases, runServer, temporaryFolder } from '../helpers/running-server.js';
import { letGo } from '../helpers/training-app.js';
import {
  createJob,
  FAKE_RUN,
  isOver,
  messagesOf,
  spawnTrainingServer,
  untilJob,
  uploadExamples,
  workerOf,
} from '../helpers/training-client.js';

test('a server that closes leaves its jobs to the next one, at the step that they had reached', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await runServer(t, { dataDir }, FAKE_RUN);
  const trainingFile = await uploadExamples(first.client, { do: 'wait', step: 4 });
  const running = await createJob(first.client, trainingFile);
  const queued = await createJob(first.client, trainingFile, { suffix: 'second' });
  await untilJob(first.client, running.id, (_, step) => step === 3);
  const stream = await fetch(`${first.url}/v1/fine_tuning/jobs/${running.id}/events?stream=true`);
  await first.close();
  assert.match(await stream.text(), /data: \[DONE\]\n\n$/, 'followers do not hold the server up');

  const second = await runServer(t, { dataDir }, FAKE_RUN);
  const { client } = second;
  letGo(dataDir, running.id);
  letGo(dataDir, queued.id);
  for (const { id } of [running, queued])
    assert.equal((await untilJob(client, id, isOver)).status, 'succeeded', id);
  const messages = await messagesOf(client, running.id);
  assert(messages.includes('Resumed from step 3'), messages.join('\n'));
  assert.equal(messages.filter((message) => message.startsWith('Step 3/4')).length, 1);
  await second.close();
});

test('kill -9 of the server: its worker ends too, and the next server goes on from the checkpoint', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await spawnTrainingServer(t, dataDir);
  const trainingFile = await uploadExamples(first.client, { do: 'wait', step: 4 });
  const running = await createJob(first.client, trainingFile);
  const queued = await createJob(first.client, trainingFile);
  await untilJob(first.client, running.id, (_, step) => step === 3);
  const worker = workerOf(dataDir, running.id);
  await first.end('SIGKILL');
  while (isAlive(worker)) await nextTurn();

  const second = await spawnTrainingServer(t, dataDir);
  const { client } = second;
  letGo(dataDir, running.id);
  letGo(dataDir, queued.id);
  for (const { id } of [running, queued])
    assert.equal((await untilJob(client, id, isOver)).status, 'succeeded', id);
  const messages = await messagesOf(client, running.id);
  assert(messages.includes('Resumed from step 2'), messages.join('\n'));
  const done = await client.fineTuning.jobs.retrieve(running.id);
  assert.equal(done.trained_tokens, 40);
  const [reference] = referenceCases('lora-qv-r8');
  assert.deepEqual(await greedyTokens(client, done.fine_tuned_model!, reference!.prompt), reference!.greedy);
  await second.end('SIGTERM');
});

test('a job that is paused stays so across a restart, and files are still there', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await runServer(t, { dataDir }, FAKE_RUN);
  const trainingFile = await uploadExamples(first.client, { do: 'wait', step: 3 });
  const job = await createJob(first.client, trainingFile);
  await untilJob(first.client, job.id, (_, step) => step === 2);
  await first.client.fineTuning.jobs.pause(job.id);
  await first.close();
  const second = await runServer(t, { dataDir }, FAKE_RUN);
  const { client } = second;
  assert.equal((await client.fineTuning.jobs.retrieve(job.id)).status, 'paused');
  const text = await (await client.files.content(trainingFile)).text();
  assert.equal(text.trim().split('\n').length, 5);
  letGo(dataDir, job.id);
  await client.fineTuning.jobs.resume(job.id);
  assert.equal((await untilJob(client, job.id, isOver)).status, 'succeeded');
  assert.equal((await client.fineTuning.jobs.retrieve(job.id)).model, BASE);
  await second.close();
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
