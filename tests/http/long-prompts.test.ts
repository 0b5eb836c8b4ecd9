// Prompts that are far too long: refused by name, and others are served while they are tokenized.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorOf, jsonOf, testApp, type TestAppOptions } from '../helpers/server-app.js';

const TEXT = '/v1/completions';
const CHAT = '/v1/chat/completions';
const ids = (count: number): number[] => Array.from({ length: count }, () => 65);

async function refused(path: string, body: object, options: TestAppOptions = { contextLength: 40 }) {
  const { post, adapters, engine } = testApp({ adapterNames: ['german'], ...options });
  const response = await post(path, body);
  const { code, param, message } = await errorOf(response);
  assert.equal(engine.requests.length, 0);
  assert.equal(adapters.numAcquired, adapters.numReleased);
  return { status: response.status, code, param, message };
}

for (const [what, path, body, param] of [
  ['a text', TEXT, { model: 'tiny', prompt: 'x'.repeat(41) }, 'prompt'],
  ['one of several texts', TEXT, { model: 'tiny', prompt: ['x', 'x'.repeat(41)] }, 'prompt.1'],
  ['token ids', TEXT, { model: 'tiny', prompt: ids(41) }, 'prompt'],
  ['one of several lists of ids', TEXT, { model: 'tiny', prompt: [[1], ids(41)] }, 'prompt.1'],
  ['messages', CHAT, { model: 'tiny', messages: [{ role: 'user', content: 'x'.repeat(41) }] }, 'messages'],
  ['a text for an adapter', TEXT, { model: 'german', prompt: 'x'.repeat(41) }, 'prompt'],
] as const)
  test(`${what} beyond the context`, async () => {
    const { message, ...rest } = await refused(path, body);
    assert.deepEqual(rest, { status: 400, code: 'context_length_exceeded', param });
    assert.match(message, new RegExp(`maximum context length is 40 tokens.*\`${param}\``));
  });

test('as many tokens as the context holds get to the engine, which counts the answer in', async () => {
  const { post, engine } = testApp({ contextLength: 40 });
  const response = await post(TEXT, { model: 'tiny', prompt: 'x'.repeat(40), max_tokens: 0, echo: true });
  assert.equal(response.status, 200);
  assert.equal(engine.requests[0]!.promptTokens.length, 40);
});

test('/tokenize counts beyond the context, but not without end', async () => {
  const { post } = testApp({ contextLength: 40 });
  const counted = await jsonOf<{ count: number }>(await post('/tokenize', { prompt: 'x'.repeat(32_768) }));
  assert.equal(counted.count, 32_768);
  const prompt = await refused('/tokenize', { prompt: 'x'.repeat(32_769) });
  assert.deepEqual([prompt.status, prompt.code, prompt.param], [400, 'context_length_exceeded', 'prompt']);
  assert.match(prompt.message, /at most 32768 tokens/);
  const content = 'x'.repeat(32_769);
  const chat = await refused('/tokenize', { messages: [{ role: 'user', content }] });
  assert.deepEqual([chat.status, chat.code, chat.param], [400, 'context_length_exceeded', 'messages']);
});

test('/detokenize takes as many tokens', async () => {
  const { post } = testApp();
  const { prompt } = await jsonOf<{ prompt: string }>(await post('/detokenize', { tokens: ids(32_768) }));
  assert.equal(prompt.length, 32_768);
  const { status, code, param } = await refused('/detokenize', { tokens: ids(32_769) });
  assert.deepEqual([status, code, param], [400, 'context_length_exceeded', 'tokens']);
});

test('a list of more items than any prompt has is refused before its items are looked at', async () => {
  for (const [path, body, param] of [
    ['/detokenize', { tokens: ids(131_073) }, 'tokens'],
    [TEXT, { model: 'tiny', prompt: [[1], ids(131_073)] }, 'prompt.1'],
    [CHAT, { model: 'tiny', messages: ids(131_073) }, 'messages'],
  ] as const) {
    const error = await refused(path, body);
    assert.deepEqual([error.status, error.code, error.param], [400, 'invalid_value', param]);
    assert.match(error.message, /at most 131072 items, got `131073`/);
  }
});

for (const [what, path, body] of [
  ['a long text', '/tokenize', { prompt: 'x'.repeat(30_000) }],
  ['a long chat', '/tokenize', { messages: [{ role: 'user', content: 'x'.repeat(30_000) }] }],
  ['many prompts', TEXT, { model: 'tiny', prompt: Array.from({ length: 30 }, () => 'x'), max_tokens: 1 }],
] as const)
  test(`others are served while ${what} is tokenized`, async () => {
    const { app, post } = testApp();
    const state = { isDone: false };
    const answered = post(path, body).then(async (response) => {
      await response.text();
      state.isDone = true;
      return response.status;
    });
    let numServed = 0;
    while (!state.isDone) {
      assert.equal((await app.request('/health')).status, 200);
      numServed++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(await answered, 200);
    assert.ok(numServed >= 20, `${numServed} requests were served meanwhile`);
  });

test('a long body is read as it comes, characters in two chunks too', async () => {
  const { app } = testApp();
  const bytes = new TextEncoder().encode(JSON.stringify({ prompt: '世界'.repeat(1000) }));
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += 100) controller.enqueue(bytes.subarray(at, at + 100));
      controller.close();
    },
  });
  const headers = { 'content-type': 'application/json' };
  const init = { method: 'POST', headers, body, duplex: 'half' } as const;
  const response = await app.request('/tokenize', init);
  const { tokens } = await jsonOf<{ tokens: readonly number[] }>(response);
  assert.equal(new TextDecoder().decode(Uint8Array.from(tokens)), '世界'.repeat(1000));
});
