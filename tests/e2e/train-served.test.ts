// A job with the real trainer, in a worker process of its own: the loss falls, and the adapter answers as it was taught.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toFile } from 'openai';
import { BASE, runServer } from '../helpers/running-server.js';
import { isOver, untilJob } from '../helpers/training-client.js';

const example = {
  messages: [
    { role: 'user', content: 'hi' },
    { role: 'assistant', content: 'abc' },
  ],
};

test('an adapter that is trained by a job says what it was taught', async (t) => {
  const { client, url } = await runServer(t, { trainThreads: '1' });
  const lines = Array.from({ length: 8 }, () => `${JSON.stringify(example)}\n`).join('');
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines), 'a.jsonl'),
    purpose: 'fine-tune',
  });
  const job = await client.fineTuning.jobs.create({
    model: BASE,
    training_file: file.id,
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 15, batch_size: 4 } } },
    ...{
      x_graft: {
        lora_rank: 8,
        learning_rate: 3e-2,
        cutoff_len: 64,
        sample_steps: 15,
        sample_prompts: ['hi'],
      },
    },
  });
  const done = await untilJob(client, job.id, isOver);
  assert.equal(done.status, 'succeeded', JSON.stringify(done.error));
  const losses: number[] = [];
  for await (const { data } of client.fineTuning.jobs.listEvents(job.id, { limit: 100 }))
    if (isStep(data)) losses.unshift(data.train_loss);
  assert.equal(losses.length, 30);
  assert(losses.at(-1)! < losses[0]! / 4, `${losses[0]} to ${losses.at(-1)}`);
  const answer = await client.chat.completions.create({
    model: done.fine_tuned_model!,
    messages: [{ role: 'user', content: 'hi' }],
    temperature: 0,
    max_tokens: 8,
  });
  assert.equal(answer.choices[0]!.message.content, 'abc');
  assert.equal((await fetch(`${url}/health`)).status, 200);
});

test('rows that are not JSON fail the job, and the error names the row', async (t) => {
  const { client } = await runServer(t);
  const lines = `${JSON.stringify(example)}\n{"messages": [\n`;
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines), 'b.jsonl'),
    purpose: 'fine-tune',
  });
  const job = await client.fineTuning.jobs.create({ model: BASE, training_file: file.id });
  const { status, error } = await untilJob(client, job.id, isOver);
  assert.deepEqual([status, error!.code], ['failed', 'invalid_file'], JSON.stringify(error));
  assert.match(error!.message, /b\.jsonl/);
  assert.match(error!.message, /2/);
});

function isStep(data: unknown): data is { readonly train_loss: number } {
  return typeof data === 'object' && data !== null && 'train_loss' in data && 'grad_norm' in data;
}
