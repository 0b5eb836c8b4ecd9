// How requests end early: the client goes, the time is up, the engine fails or is shut down. Always one outcome,
// one release, nothing left running; and a slow client holds up nobody.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { says } from '../helpers/fake-engine.js';
import {
  chunksOf,
  errorOf,
  rawEventsOf,
  testApp,
  type TestAppOptions,
  type WireAnswer,
} from '../helpers/server-app.js';

const PATH = '/v1/chat/completions';
const hello = { model: 'german', messages: [{ role: 'user', content: 'hi' }] };
const streamed = { ...hello, stream: true };

const start = (options: TestAppOptions) => testApp({ adapterNames: ['german'], ...options });

async function outcomesOf(t: ReturnType<typeof testApp>): Promise<Record<string, number>> {
  const text = await (await t.app.request('/metrics')).text();
  const found = [...text.matchAll(/^vllm:request_success_total\{.*finished_reason="(\w+)"\} (\d+)$/gm)];
  return Object.fromEntries(found.map(([, reason, count]) => [reason, Number(count)]));
}

async function endsOnce(t: ReturnType<typeof testApp>, outcomes: Record<string, number>) {
  await t.engine.idle();
  await t.engine.until(() => t.adapters.numReleased > 0);
  assert.deepEqual([t.adapters.numAcquired, t.adapters.numReleased], [1, 1]);
  assert.deepEqual(await outcomesOf(t), { stop: 0, length: 0, abort: 0, error: 0, ...outcomes });
}

test('a client that leaves a stream cancels every choice at once', async () => {
  const t = start({ freeTokens: 2 });
  const response = await t.post(PATH, { ...streamed, n: 2 });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  assert.ok(t.engine.requests.every((request) => request.signal.aborted));
  await endsOnce(t, { abort: 2 });
});

test('a client that leaves before a whole answer cancels it, counted as 499', async () => {
  const t = start({ freeTokens: 2 });
  const client = new AbortController();
  const pending = t.post(PATH, hello, { signal: client.signal });
  await t.engine.until(() => t.engine.requests.length === 1);
  client.abort();
  assert.equal(t.engine.requests[0]!.signal.aborted, true);
  assert.equal((await pending).status, 499);
  await endsOnce(t, { abort: 1 });
});

test('a client that left while its adapter loaded never reaches the engine', async () => {
  const t = start({});
  const client = new AbortController();
  const acquire = t.adapters.acquire.bind(t.adapters);
  t.adapters.acquire = async (name) => {
    client.abort();
    return acquire(name);
  };
  const response = await t.post(PATH, hello, { signal: client.signal });
  assert.equal(response.status, 499);
  assert.equal(t.engine.requests.length, 0);
  assert.deepEqual([t.adapters.numAcquired, t.adapters.numReleased], [1, 1]);
});

test('a client that goes after its answer changes nothing', async () => {
  const t = start({ script: says('done') });
  const client = new AbortController();
  const response = await t.post(PATH, hello, { signal: client.signal });
  client.abort();
  assert.equal(response.status, 200);
  await endsOnce(t, { stop: 1 });
});

test('a slow client holds up neither the engine nor the adapter, and misses nothing', async () => {
  const t = start({});
  const response = await t.post(PATH, { ...streamed, seed: 4, max_tokens: 2000 });
  await t.engine.idle();
  await endsOnce(t, { length: 1 });
  const reads: string[] = [];
  for await (const bytes of response.body!) reads.push(Buffer.from(bytes).toString());
  assert.ok(reads.length <= 3, `what piled up comes in a few pieces, not in ${reads.length}`);
  const chunks = chunksOf(reads.join(''));
  const text = chunks.map((chunk) => chunk.choices[0]!.delta!.content ?? '').join('');
  assert.equal(text.length, 2000);
  const again = await t.post(PATH, { ...hello, seed: 4, max_tokens: 2000 });
  const answer: WireAnswer = JSON.parse(await again.text());
  assert.equal(text, answer.choices[0]!.message!.content);
});

test('events come as they happen, not when the answer is whole', async () => {
  const t = start({ freeTokens: 1, script: says('ab') });
  const response = await t.post(PATH, streamed);
  const reader = response.body!.getReader();
  let seen = '';
  while (!seen.includes('"content":"a"')) seen += Buffer.from((await reader.read()).value).toString();
  assert.equal(t.engine.numRunning, 1);
  t.engine.step(2);
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    seen += Buffer.from(read.value).toString();
  }
  assert.deepEqual(
    chunksOf(seen).map((chunk) => chunk.choices[0]!.delta!.content),
    ['', 'a', 'b', undefined],
  );
});

test('a failure in a stream is an error event without [DONE]', async () => {
  const t = start({ failAfter: 2, script: says('abc') });
  const response = await t.post(PATH, streamed);
  assert.equal(response.status, 200);
  const events = rawEventsOf(await response.text());
  assert.deepEqual(JSON.parse(events.at(-1)!), {
    error: { message: 'the engine broke', type: 'server_error', param: null, code: 'engine_failed' },
  });
  assert.ok(!events.includes('[DONE]'));
  assert.equal(events.length, 1 + 2 + 1);
  await endsOnce(t, { error: 1 });
});

test('one failed choice ends the others', async () => {
  const t = start({ script: says('ab'), freeTokens: 2 });
  const generate = t.engine.generate.bind(t.engine);
  t.engine.generate = (request) => {
    if (request.sampling.seed !== 8) return generate(request);
    return (async function* fail() {
      yield { type: 'prompt', numCachedTokens: 0, promptLogprobs: null } as const;
      throw new Error('the second choice broke');
    })();
  };
  const response = await t.post(PATH, { ...hello, n: 2, seed: 7 });
  assert.deepEqual([response.status, (await errorOf(response)).code], [500, 'internal_error']);
  await endsOnce(t, { abort: 1, error: 1 });
});

test('a request that takes too long ends with unavailable, whole and streamed', async () => {
  const limits = { maxUploadBytes: 1000, requestTimeoutMs: 1 };
  const whole = start({ freeTokens: 1, deps: { limits } });
  const response = await whole.post(PATH, hello);
  assert.deepEqual([response.status, (await errorOf(response)).code], [503, 'unavailable']);
  await endsOnce(whole, { abort: 1 });
  const stream = start({ freeTokens: 1, deps: { limits } });
  const events = rawEventsOf(await (await stream.post(PATH, streamed)).text());
  assert.match(events.at(-1)!, /"code":"unavailable"/);
  await endsOnce(stream, { abort: 1 });
});

test('an engine that is shut down ends requests with unavailable, not with half an answer', async () => {
  const whole = start({ freeTokens: 1 });
  const pending = whole.post(PATH, hello);
  await whole.engine.until(() => whole.engine.requests.length === 1);
  await whole.engine.dispose();
  const response = await pending;
  assert.deepEqual([response.status, (await errorOf(response)).code], [503, 'unavailable']);
  assert.equal(response.headers.get('retry-after'), '1');
  await endsOnce(whole, { abort: 1 });

  const stream = start({ freeTokens: 1 });
  const body = (await stream.post(PATH, streamed)).text();
  await stream.engine.until(() => stream.engine.requests.length === 1);
  await stream.engine.dispose();
  const events = rawEventsOf(await body);
  assert.match(events.at(-1)!, /"code":"unavailable"/);
  await endsOnce(stream, { abort: 1 });
});

test('a request refused after its adapter was pinned releases it', async () => {
  const t = start({});
  const response = await t.post(PATH, { ...hello, min_tokens: 9, max_tokens: 8 });
  assert.equal(response.status, 400);
  await endsOnce(t, {});
});
