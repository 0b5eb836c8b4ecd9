// What happens to requests while the server changes under them: new versions, deletion, clients that leave, a full queue, shutdown.
// Long requests are lists of prompts on two slots, so that most of their sequences have not begun when the change comes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { APIUserAbortError, type OpenAI, NotFoundError, RateLimitError } from 'openai';
import { gated } from '../helpers/adapter-fixtures.js';
import {
  BASE,
  clientOf,
  greedyBody,
  greedyTokens,
  longBody,
  metric,
  referenceCases,
  refusalOf,
  runServer,
  untilIdle,
  untilBusy,
  uploadAdapter,
} from '../helpers/running-server.js';

const NUM_PROMPTS = 12;
const server = await runServer({ after }, { slots: '2' });
const { client, url } = server;

interface Long {
  /** Resolves with the first piece. */
  readonly begun: Promise<void>;
  /** The text of each sequence. */
  readonly texts: Promise<string[]>;
  readonly ended: () => boolean;
}

/** A long streamed request. */
function startLong(from: OpenAI, model: string, numPrompts = NUM_PROMPTS): Long {
  const begun = gated<void>();
  let ended = false;
  const read = async (): Promise<string[]> => {
    const texts = Array.from({ length: numPrompts }, () => '');
    const stream = await from.completions.create({ ...longBody(model, numPrompts), stream: true });
    for await (const { choices } of stream) {
      for (const { index, text } of choices) texts[index]! += text;
      begun.resolve();
    }
    ended = true;
    return texts;
  };
  const texts = read();
  texts.catch(begun.reject);
  return { begun: begun.promise, texts, ended: () => ended };
}

async function textAlone(model: string): Promise<string> {
  const answer = await client.completions.create(longBody(model, 1));
  return answer.choices[0]!.text;
}

test('a new version under the same name: what runs ends on the old weights, what comes gets the new', async () => {
  assert.equal((await uploadAdapter(url, 'a', 'lora-all-r8')).status, 201);
  const oldText = await textAlone('a');
  const old = startLong(client, 'a');
  await old.begun;
  const response = await uploadAdapter(url, 'a', 'lora-mixed');
  const { version }: { version: number } = JSON.parse(await response.text());
  assert.deepEqual([response.status, version], [201, 2]);
  const [reference] = referenceCases('lora-mixed');
  const fresh = greedyTokens(client, 'a', reference!.prompt);
  assert(!old.ended(), 'the old version still runs');
  assert.deepEqual(await fresh, reference!.greedy);
  const texts = await old.texts;
  texts.forEach((text, i) => assert.equal(text, oldText, `sequence ${i} of the old version`));
  assert.notEqual(await textAlone('a'), oldText);
});

test('an adapter deleted while it runs: what runs ends, what comes is a 404', async () => {
  const expected = await textAlone('a');
  const running = startLong(client, 'a');
  await running.begun;
  assert.equal((await fetch(`${url}/v1/adapters/a`, { method: 'DELETE' })).status, 200);
  assert(!running.ended(), 'it still runs');
  await assert.rejects(textAlone('a'), NotFoundError);
  for (const path of ['/v1/adapters/a', '/v1/models/a']) assert.equal((await fetch(url + path)).status, 404);
  assert.equal((await fetch(`${url}/v1/adapters/a`, { method: 'DELETE' })).status, 404);
  const texts = await running.texts;
  texts.forEach((text, i) => assert.equal(text, expected, `sequence ${i}`));
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.doesNotMatch(metrics, /vllm:lora_adapter_loaded\{/, 'no series of it stays');
});

test('/metrics and /health answer while the model computes', async () => {
  const running = startLong(client, BASE);
  await running.begun;
  assert.equal(await metric(url, 'vllm:num_requests_running'), 2);
  assert((await metric(url, 'vllm:num_requests_waiting')) > 0);
  assert.equal((await fetch(`${url}/health`)).status, 200);
  assert(!running.ended(), 'they answered before it ended');
  assert.equal((await running.texts).length, NUM_PROMPTS);
});

test('a client that leaves frees its slots', async () => {
  const aborted = () => metric(url, 'vllm:request_success_total', 'finished_reason="abort"');
  const before = await aborted();
  const stream = await client.completions.create({ ...longBody(BASE, 100), stream: true });
  for await (const chunk of stream) if (chunk.choices[0]!.text !== '') break;
  await untilIdle(url);
  assert((await aborted()) > before, 'it was cancelled, not finished');
  const leave = new AbortController();
  const whole = client.completions.create(longBody(BASE, 100), { signal: leave.signal });
  await untilBusy(url);
  leave.abort();
  await assert.rejects(whole, APIUserAbortError);
  await untilIdle(url);
  const [reference] = referenceCases(BASE);
  assert.deepEqual(await greedyTokens(client, BASE, reference!.prompt), reference!.greedy);
});

test('a full queue is a 429 with Retry-After, and leaves nothing behind', async (t) => {
  const small = await runServer(t, { slots: '1', queue: '1', dataDir: server.dataDir });
  const body = { ...greedyBody(BASE, [1, 2, 3]), n: 3 };
  await assert.rejects(small.client.completions.create(body), (error) => {
    assert(error instanceof RateLimitError);
    assert.equal(error.code, 'queue_full');
    assert.match(error.headers.get('retry-after')!, /^[1-9]\d*$/);
    return true;
  });
  await untilIdle(small.url);
  assert.equal((await small.client.completions.create({ ...body, n: 2 })).choices.length, 2);
  const many = Array.from({ length: 12 }, () => small.client.completions.create(greedyBody(BASE, [1, 2])));
  const settled = await Promise.allSettled(many);
  const failures = settled.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
  assert(failures.length <= 10, 'the slot and the place in the queue were used');
  for (const failure of failures) assert(failure instanceof RateLimitError, String(failure));
});

test('a bad parameter is refused by name', async () => {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: BASE, prompt: 'a', suffix: 'b' }),
  });
  assert.equal(response.status, 400);
  assert.equal((await refusalOf(response)).param, 'suffix');
});

test('close finishes the running stream, and takes no new connections', async (t) => {
  const closing = await runServer(t, { slots: '2', dataDir: server.dataDir });
  const expected = await textAlone(BASE);
  const running = startLong(clientOf(closing.url), BASE);
  await running.begun;
  const closed = closing.close();
  await assert.rejects(fetch(`${closing.url}/health`), { name: 'TypeError' });
  assert(!running.ended(), 'it still runs');
  const texts = await running.texts;
  texts.forEach((text, i) => assert.equal(text, expected, `sequence ${i}`));
  await closed;
});
