// Over a real socket on a free port: OpenAI's own client, disconnects, a reader that does not read, and draining.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, get, request } from 'node:http';
import { connect } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type TestContext, test } from 'node:test';
import OpenAI, {
  APIUserAbortError,
  BadRequestError,
  ConflictError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import { type Listener, serve } from '../../src/server/index.js';
import { says } from '../helpers/fake-engine.js';
import { chunksOf, testApp, type TestAppOptions } from '../helpers/server-app.js';

const hello = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] };

async function listening(context: TestContext, options: TestAppOptions = {}) {
  const t = testApp(options);
  const listener = await serve(t.app, { host: '127.0.0.1', port: 0 });
  context.after(async () => {
    await t.engine.dispose();
    await listener.close();
  });
  const client = new OpenAI({ baseURL: `${listener.url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { ...t, listener, client };
}

test('models.list and models.retrieve', async (context) => {
  const { client } = await listening(context, { adapterNames: ['team/german'] });
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ['tiny', 'team/german']);
  assert.equal((await client.models.retrieve('team/german')).id, 'team/german');
});

test('chat: whole, with its request id', async (context) => {
  const { client } = await listening(context, { script: says('Hello 😀') });
  const { data: answer, request_id: requestId } = await client.chat.completions.create(hello).withResponse();
  assert.equal(answer.choices[0]!.message.content, 'Hello 😀');
  assert.equal(answer.choices[0]!.finish_reason, 'stop');
  assert.match(requestId!, /^req_/);
});

test('chat: streamed equals whole', async (context) => {
  const { client } = await listening(context);
  const body = { ...hello, seed: 3, max_tokens: 60, stop: ['qu'], logprobs: true };
  const whole = await client.chat.completions.create(body);
  const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0]!.message.content, whole.choices[0]!.message.content);
  assert.deepEqual(final.choices[0]!.logprobs!.content, whole.choices[0]!.logprobs!.content);
  assert.equal(final.choices[0]!.finish_reason, whole.choices[0]!.finish_reason);
  assert.deepEqual(final.usage, whole.usage);
});

test('completions with log-probabilities, whole and streamed', async (context) => {
  const { client } = await listening(context, { script: says('xyz') });
  const body = { model: 'tiny', prompt: 'ab', echo: true, logprobs: 1 };
  const whole = await client.completions.create(body);
  assert.equal(whole.choices[0]!.text, 'abxyz');
  assert.deepEqual(whole.choices[0]!.logprobs!.tokens, ['a', 'b', 'x', 'y', 'z']);
  assert.deepEqual(whole.choices[0]!.logprobs!.text_offset, [0, 1, 2, 3, 4]);
  let text = '';
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0]!.text;
  }
  assert.equal(text, 'abxyz');
});

test('errors are the classes of the client', async (context) => {
  const { client, listener } = await listening(context, { capacity: 1, freeTokens: 0 });
  const bad = client.chat.completions.create({ ...hello, temperature: 9 });
  await assert.rejects(bad, (error) => {
    assert.ok(error instanceof BadRequestError);
    assert.deepEqual(
      [error.code, error.param, error.type],
      ['invalid_value', 'temperature', 'invalid_request_error'],
    );
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...hello, model: 'nobody' }), NotFoundError);
  await assert.rejects(client.models.retrieve('nobody'), NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...hello, n: 2 }), RateLimitError);
  const retrying = new OpenAI({ baseURL: `${listener.url}/v1`, apiKey: 'none', maxRetries: 5 });
  const form = new FormData();
  form.set('name', 'tiny');
  form.set('file', new File(['{}'], 'adapter_config.json'));
  await assert.rejects(retrying.post('/adapters', { body: form }), ConflictError);
  const metrics = await (await fetch(`${listener.url}/metrics`)).text();
  assert.match(metrics, /route="\/v1\/adapters",method="POST",status="409"\} 1\n/, 'not retried');
});

test('an error event in a stream is thrown by the client', async (context) => {
  const { client } = await listening(context, { failAfter: 1, script: says('ab') });
  const stream = await client.chat.completions.create({ ...hello, stream: true });
  await assert.rejects(async () => {
    for await (const chunk of stream) assert.equal(chunk.object, 'chat.completion.chunk');
  }, /the engine broke/);
});

test('a client that leaves a stream cancels the engine', async (context) => {
  const { client, engine, adapters } = await listening(context, { freeTokens: 2, adapterNames: ['german'] });
  const stream = await client.chat.completions.create({ ...hello, model: 'german', stream: true });
  for await (const chunk of stream) if (chunk.choices[0]!.delta.content) break;
  await engine.until(() => engine.requests[0]!.signal.aborted);
  await engine.idle();
  await engine.until(() => adapters.numReleased === 1);
  assert.equal(engine.numCancelled, 1);
});

test('a client that leaves before its whole answer cancels the engine', async (context) => {
  const { client, engine } = await listening(context, { freeTokens: 2 });
  const leave = new AbortController();
  const pending = client.chat.completions.create(hello, { signal: leave.signal });
  await engine.until(() => engine.requests.length === 1);
  leave.abort();
  await assert.rejects(pending, APIUserAbortError);
  await engine.idle();
  assert.equal(engine.numCancelled, 1);
});

test('an upload arrives byte for byte', async (context) => {
  const { listener, adapters } = await listening(context);
  const bytes = Uint8Array.from({ length: 50_000 }, (_, index) => (index * 7) & 255);
  const form = new FormData();
  form.set('name', 'german');
  form.append('file', new File([bytes], 'adapter_model.safetensors'));
  const response = await fetch(`${listener.url}/v1/adapters`, { method: 'POST', body: form });
  assert.equal(response.status, 201);
  assert.deepEqual(new Uint8Array(adapters.registered[0]!.files.get('adapter_model.safetensors')!), bytes);
});

test('an upload that is too large is refused by its declared length', async (context) => {
  const { listener, adapters } = await listening(context, { deps: { limits: { maxUploadBytes: 10_000 } } });
  const form = new FormData();
  form.set('name', 'german');
  form.append('file', new File([new Uint8Array(50_000)], 'adapter_model.safetensors'));
  const response = await fetch(`${listener.url}/v1/adapters`, { method: 'POST', body: form });
  assert.equal(response.status, 413);
  assert.deepEqual(adapters.registered, []);
});

test('a reader that does not read holds up nobody, and gets all of it later', async (context) => {
  const { engine, listener, adapters } = await listening(context, {
    contextLength: 40_000,
    adapterNames: ['german'],
    deps: {
      base: {
        name: 'tiny',
        baseHash: 'f',
        createdAt: 0,
        source: '',
        weights: 'q4',
        contextLength: 40_000,
        ropeScaling: null,
      },
    },
  });
  const body = JSON.stringify({ ...hello, model: 'german', stream: true, max_tokens: 30_000 });
  const socket = connect(listener.port, '127.0.0.1');
  socket.pause();
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await engine.until(() => engine.requests.length === 1);
  await engine.idle();
  await engine.until(() => adapters.numReleased === 1);
  assert.equal((await fetch(`${listener.url}/health`)).status, 200);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part);
  const chunks = chunksOf(unchunked(Buffer.concat(parts)));
  assert.equal(chunks.map((chunk) => chunk.choices[0]!.delta!.content ?? '').join('').length, 30_000);
});

test('close drains: no new connections, answers under way are finished', async (context) => {
  const { client, engine, listener } = await listening(context, { freeTokens: 1, script: says('abc') });
  const pending = client.chat.completions.create(hello);
  await engine.until(() => engine.requests.length === 1);
  const closed = listener.close();
  await assert.rejects(fetch(`${listener.url}/health`));
  assert.equal(engine.numRunning, 1);
  engine.step(3);
  assert.equal((await pending).choices[0]!.message.content, 'abc');
  await closed;
});

test('close does not wait for connections without a request, kept open after one or opened ahead of one', async () => {
  const { app } = testApp();
  const listener = await serve(app, { host: '127.0.0.1', port: 0 });
  const early = connect(listener.port, '127.0.0.1');
  await once(early, 'connect');
  const agent = new Agent({ keepAlive: true });
  await new Promise<void>((resolve, reject) => {
    get(`${listener.url}/health`, { agent }, (response) => response.resume().on('end', resolve)).on(
      'error',
      reject,
    );
  });
  early.resume();
  await Promise.all([listener.close(), once(early, 'close')]);
  agent.destroy();
});

test('an address that is taken is an error', async (context) => {
  const { app, listener } = await listening(context);
  await assert.rejects(serve(app, { host: '127.0.0.1', port: listener.port }), { code: 'EADDRINUSE' });
});

test('a client that leaves in the middle of its body is no failure of ours', async (context) => {
  const { engine, listener, logged, app } = await listening(context);
  const socket = connect(listener.port, '127.0.0.1');
  socket.write('POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"model"');
  await once(socket, 'connect');
  await fetch(`${listener.url}/health`);
  socket.destroy();
  let metrics = '';
  for (let turn = 0; turn < 10_000 && !metrics.includes('route="/v1/chat/completions"'); turn++) {
    await nextTurn();
    metrics = await (await app.request('/metrics')).text();
  }
  assert.match(metrics, /route="\/v1\/chat\/completions",method="POST",status="400"\} 1\n/);
  assert.deepEqual(logged, []);
  assert.equal(engine.requests.length, 0);
});

test('a path in a strange form gets an answer', async (context) => {
  const { listener } = await listening(context);
  assert.equal(await statusOf(listener, '/v1/models/%E0%A4%A'), 404);
  assert.equal(await statusOf(listener, '//'), 404);
});

function statusOf(listener: Listener, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ port: listener.port, host: '127.0.0.1', path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
}

/** The body of a chunked HTTP answer. */
function unchunked(answer: Buffer): string {
  const parts: Buffer[] = [];
  let at = answer.indexOf('\r\n\r\n') + 4;
  for (;;) {
    const lineEnd = answer.indexOf('\r\n', at);
    const size = parseInt(answer.toString('latin1', at, lineEnd), 16);
    if (size === 0) return Buffer.concat(parts).toString();
    parts.push(answer.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}
