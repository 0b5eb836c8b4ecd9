// The default form of the weights, 4 bits, over HTTP: near the exact base, and the same tokens whatever else is in the batch.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  BASE,
  greedyBody,
  greedyTokens,
  referenceCases,
  runServer,
  uploadAll,
} from '../helpers/running-server.js';

const ADAPTERS = ['lora-all-r8', 'lora-mixed', 'lora-qv-r8', 'prefix-8', 'prompt-8', 'dora-all-r8', 'ia3'];
/** Mean distance of log-probabilities that rounding these random weights to 4 bits may cost. */
const MEAN_DISTANCE = 0.5;

const { client, url } = await runServer({ after }, { weights: 'q4' });

test('log-probabilities are those of the exact base, but for rounding', async () => {
  const models = await client.models.list();
  assert.deepEqual(
    models.data.map(({ id }) => id),
    [BASE],
  );
  const distances: number[] = [];
  for (const { prompt, logprobs } of referenceCases(BASE)) {
    const answer = await client.completions.create({ ...greedyBody(BASE, prompt), echo: true });
    const scores = answer.choices[0]!.logprobs!.token_logprobs!.slice(1, prompt.length);
    distances.push(...scores.map((value, i) => Math.abs(value - logprobs[i]!)));
  }
  const mean = distances.reduce((sum, value) => sum + value, 0) / distances.length;
  assert(mean > 0 && mean < MEAN_DISTANCE, `mean distance ${mean}`);
});

test('all kinds of adapters at once are each as alone', async () => {
  await uploadAll(url, ADAPTERS);
  const cases = [BASE, ...ADAPTERS].flatMap((name) => referenceCases(name));
  const alone: string[][] = [];
  for (const { name, prompt } of cases) alone.push(await greedyTokens(client, name, prompt));
  const mixed = await Promise.all(cases.map(({ name, prompt }) => greedyTokens(client, name, prompt)));
  mixed.forEach((tokens, i) => assert.deepEqual(tokens, alone[i], cases[i]!.name));
  assert(new Set(alone.map(String)).size > cases.length / 2, 'adapters answer differently');
});

test('streamed equals whole', async () => {
  const body = { model: 'prefix-8', prompt: 'some words', max_tokens: 24, seed: 3, n: 2 };
  const whole = await client.completions.create(body);
  const texts = ['', ''];
  for await (const { choices } of await client.completions.create({ ...body, stream: true }))
    for (const { index, text } of choices) texts[index]! += text;
  assert.deepEqual(
    texts,
    whole.choices.map(({ text }) => text),
  );
});
