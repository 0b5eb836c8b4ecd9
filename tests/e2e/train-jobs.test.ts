// The whole life of a fine-tuning job with OpenAI's own client: the real server and engine, worker processes that do a fake run.
import assert from 'node:assert/strict';
import { constants, getPriority } from 'node:os';
import { after, before, test } from 'node:test';
import { BadRequestError, type OpenAI } from 'openai';
import {
  BASE,
  greedyTokens,
  metric,
  referenceCases,
  runServer,
  type RunningServer,
} from '../helpers/running-server.js';
import { letGo } from '../helpers/training-app.js';
import {
  createJob,
  FAKE_RUN,
  isOver,
  messagesOf,
  untilJob,
  uploadExamples,
  workerOf,
} from '../helpers/training-client.js';

const undo: (() => void | Promise<void>)[] = [];
let server: RunningServer;
let client: OpenAI;

before(async () => {
  server = await runServer({ after: (task) => undo.push(task) }, { slots: '4' }, FAKE_RUN);
  client = server.client;
});
after(async () => {
  for (const task of undo) await task();
});

test('from a file to a model that answers', async () => {
  const trainingFile = await uploadExamples(client, { do: 'sample', step: 2 }, { do: 'wait', step: 3 });
  const job = await createJob(client, trainingFile, {
    suffix: 'first',
    seed: 3,
    metadata: { team: 'x' },
    x_graft: { sample_steps: 2, sample_prompts: ['hi', 'ho'] },
  });
  assert.deepEqual([job.object, job.status, job.seed], ['fine_tuning.job', 'queued', 3]);
  await untilJob(client, job.id, (_, step) => step === 2);
  assert.equal((await client.fineTuning.jobs.retrieve(job.id)).status, 'running');
  assert.equal(await metric(server.url, 'training_jobs', 'status="running"'), 1);
  assert.equal(await metric(server.url, 'training_loss'), 0.5);
  letGo(server.dataDir, job.id);

  const done = await untilJob(client, job.id, isOver);
  assert.equal(done.status, 'succeeded', JSON.stringify(done.error));
  assert.deepEqual([done.trained_tokens, done.estimated_finish, done.error], [40, null, null]);
  const model = done.fine_tuned_model!;
  assert.match(model, /^ft:llama-tied:first:[a-z0-9]{12}$/);
  const answer = await client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'hi' }],
    max_tokens: 4,
  });
  assert.equal(answer.model, model);
  for (const { prompt, greedy } of referenceCases('lora-qv-r8'))
    assert.deepEqual(await greedyTokens(client, model, prompt), greedy);
  assert.equal((await client.models.retrieve(model)).id, model);

  const log = await (await client.files.content(done.result_files[0]!)).text();
  assert.equal(log.trim().split('\n').length, 4);
  const checkpoints = [];
  for await (const checkpoint of client.fineTuning.jobs.checkpoints.list(job.id, { limit: 1 }))
    checkpoints.push(checkpoint);
  assert.deepEqual(
    checkpoints.map((checkpoint) => [checkpoint.step_number, checkpoint.fine_tuned_model_checkpoint]),
    [4, 2].map((step) => [step, `${model}:ckpt-step-${step}`]),
  );
  const [reference] = referenceCases('lora-qv-r8');
  const checkpoint = checkpoints[1]!.fine_tuned_model_checkpoint;
  assert.deepEqual(await greedyTokens(client, checkpoint, reference!.prompt), reference!.greedy);
  const listed = [];
  for await (const item of client.fineTuning.jobs.list({ metadata: { team: 'x' } })) listed.push(item.id);
  assert.deepEqual(listed, [job.id]);
});

test('samples come from the engine with the adapter as it is', async () => {
  const trainingFile = await uploadExamples(client, { do: 'sample', step: 1 });
  const job = await createJob(client, trainingFile, {
    x_graft: { sample_steps: 1, sample_prompts: ['hi', 'what is this?'] },
  });
  const done = await untilJob(client, job.id, isOver);
  const page = await client.fineTuning.jobs.listEvents(job.id, { limit: 100 });
  const event = page.data.find(({ message }) => message === 'Samples at step 1');
  const { samples } = event!.data as { samples: readonly { prompt: string; text: string }[] };
  for (const [index, prompt] of ['hi', 'what is this?'].entries()) {
    const answer = await client.chat.completions.create({
      model: done.fine_tuned_model!,
      messages: [{ role: 'user', content: prompt }],
      temperature: 0,
      max_tokens: 128,
    });
    assert.deepEqual(samples[index], { prompt, text: answer.choices[0]!.message.content });
  }
});

test('events are streamed as they come, and the stream ends with the job', async () => {
  const job = await createJob(client, await uploadExamples(client, { do: 'wait', step: 2 }));
  const response = await fetch(`${server.url}/v1/fine_tuning/jobs/${job.id}/events?stream=true`);
  let text = '';
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.includes('Step 1/4')) letGo(server.dataDir, job.id);
  }
  const data = text.split('\n\n').filter((line) => line !== '');
  assert.equal(data.pop(), 'data: [DONE]');
  const streamed = data.map(
    (line) => (JSON.parse(line.slice('data: '.length)) as { message: string }).message,
  );
  assert.deepEqual(streamed, await messagesOf(client, job.id));
});

test('pause, resume and cancel', async () => {
  const trainingFile = await uploadExamples(client, { do: 'wait', step: 4 });
  const [first, second] = [await createJob(client, trainingFile), await createJob(client, trainingFile)];
  await untilJob(client, first.id, (_, step) => step === 3);
  assert.equal((await client.fineTuning.jobs.pause(first.id)).status, 'paused');
  await untilJob(client, second.id, (_, step) => step === 3);
  assert.equal((await client.fineTuning.jobs.cancel(second.id)).status, 'cancelled');
  letGo(server.dataDir, first.id);
  await client.fineTuning.jobs.resume(first.id);
  const done = await untilJob(client, first.id, isOver);
  assert.equal(done.status, 'succeeded');
  assert((await messagesOf(client, first.id)).includes('Resumed from step 3'));
  assert.equal((await client.fineTuning.jobs.retrieve(second.id)).fine_tuned_model, null);
  await assert.rejects(client.fineTuning.jobs.cancel(first.id), BadRequestError);
});

test('DPO, by its own method', async () => {
  const job = await createJob(client, await uploadExamples(client), {
    method: { type: 'dpo', dpo: { hyperparameters: { beta: 0.2, n_epochs: 1, batch_size: 2 } } },
  });
  assert.deepEqual(job.method, {
    type: 'dpo',
    dpo: { hyperparameters: { beta: 0.2, n_epochs: 1, batch_size: 2, learning_rate_multiplier: 1 } },
  });
  await client.fineTuning.jobs.cancel(job.id);
});

test('a kill -9 of the worker costs nothing but time, and serving goes on', async () => {
  const trainingFile = await uploadExamples(client, { do: 'wait', step: 4 });
  const job = await createJob(client, trainingFile);
  await untilJob(client, job.id, (_, step) => step === 3);
  process.kill(workerOf(server.dataDir, job.id), 'SIGKILL');
  const [reference] = referenceCases(BASE);
  assert.deepEqual(await greedyTokens(client, BASE, reference!.prompt), reference!.greedy);
  letGo(server.dataDir, job.id);
  const done = await untilJob(client, job.id, isOver);
  assert.deepEqual([done.status, done.trained_tokens], ['succeeded', 40]);
  const messages = await messagesOf(client, job.id);
  assert(messages.includes('The worker was ended by SIGKILL'), messages.join('\n'));
  assert(messages.includes('Resumed from step 2'), messages.join('\n'));
});

test('a job that kills every worker fails, and the next one runs', async () => {
  const job = await createJob(client, await uploadExamples(client, { do: 'die', step: 2 }));
  const next = await createJob(client, await uploadExamples(client));
  const failed = await untilJob(client, job.id, isOver);
  assert.deepEqual([failed.status, failed.error!.code], ['failed', 'worker_crashed']);
  assert.equal((await untilJob(client, next.id, isOver)).status, 'succeeded');
});

test('workers run at the lowest priority and are gone when nothing is left to do', async () => {
  const job = await createJob(client, await uploadExamples(client, { do: 'wait', step: 2 }));
  await untilJob(client, job.id, (_, step) => step === 1);
  const worker = workerOf(server.dataDir, job.id);
  assert.equal(getPriority(worker), constants.priority.PRIORITY_LOW);
  letGo(server.dataDir, job.id);
  await untilJob(client, job.id, isOver);
  assert.throws(() => process.kill(worker, 0), { code: 'ESRCH' });
});
