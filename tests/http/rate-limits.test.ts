// Rate limits over HTTP: OpenAI's headers through OpenAI's own client, refusals, and reservations that real usage corrects.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import OpenAI, { AuthenticationError, BadRequestError, PermissionDeniedError, RateLimitError } from 'openai';
import { serve } from '../../src/server/index.js';
import { NO_SETTINGS } from '../../src/tenants/directory.js';
import type { RateLimits } from '../../src/tenants/types.js';
import { says } from '../helpers/fake-engine.js';
import { NOW_MS, testApp, type TestAppOptions } from '../helpers/server-app.js';
import { makeKey, testTenants } from '../helpers/tenants.js';

async function limitedApp(t: TestContext, limits: Partial<RateLimits>, options: TestAppOptions = {}) {
  const time = { nowMs: NOW_MS };
  const { tenants } = await testTenants(t, time);
  const all: RateLimits = { requestsPerMinute: null, tokensPerMinute: null, ...limits };
  await tenants.createTenant('acme', { ...NO_SETTINGS, limits: all });
  const key = await makeKey(tenants, ['chat'], 'acme');
  const app = testApp({ ...options, deps: { tenants, clock: () => time.nowMs } });
  const listener = await serve(app.app, { host: '127.0.0.1', port: 0 });
  t.after(async () => {
    await app.engine.dispose();
    await listener.close();
  });
  const clientOf = (apiKey: string, maxRetries = 0) =>
    new OpenAI({ baseURL: `${listener.url}/v1`, apiKey, maxRetries });
  return { ...app, tenants, time, key, clientOf, client: clientOf(key), url: listener.url };
}

const BODY = { model: 'tiny', prompt: 'hello', max_tokens: 20 } as const;

function limitHeaders(headers: Headers): Record<string, string> {
  const prefix = 'x-ratelimit-';
  return Object.fromEntries(
    [...headers]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  );
}

test('the client sees what is left, whole and streamed, and gets back what it did not use', async (t) => {
  const { client } = await limitedApp(
    t,
    { requestsPerMinute: 60, tokensPerMinute: 600 },
    { script: says('abc') },
  );
  const first = await client.completions.create(BODY).withResponse();
  assert.deepEqual(limitHeaders(first.response.headers), {
    'limit-requests': '60',
    'limit-tokens': '600',
    'remaining-requests': '59',
    'remaining-tokens': '575',
    'reset-requests': '1s',
    'reset-tokens': '2.5s',
  });
  const second = await client.completions.create({ ...BODY, stream: true }).withResponse();
  for await (const chunk of second.data) assert.ok(chunk);
  // 5 of the prompt and 3 of the answer were used the first time.
  assert.equal(second.response.headers.get('x-ratelimit-remaining-tokens'), String(600 - 8 - 25));
  assert.equal(second.response.headers.get('x-ratelimit-remaining-requests'), '58');
});

test('beyond the requests of a minute: 429, Retry-After, and the headers; the wait is what it says', async (t) => {
  const { client, time } = await limitedApp(t, { requestsPerMinute: 2 }, { script: says('abc') });
  await client.completions.create(BODY);
  await client.completions.create(BODY);
  await assert.rejects(client.completions.create(BODY), (error) => {
    assert(error instanceof RateLimitError);
    assert.deepEqual([error.code, error.type], ['rate_limit_exceeded', 'rate_limit_error']);
    assert.equal(error.headers.get('retry-after'), '30');
    assert.deepEqual(limitHeaders(error.headers), {
      'limit-requests': '2',
      'remaining-requests': '0',
      'reset-requests': '1m0s',
    });
    return true;
  });
  time.nowMs += 29_999;
  await assert.rejects(client.completions.create(BODY), RateLimitError);
  time.nowMs += 1;
  await client.completions.create(BODY);
});

test('beyond the tokens: nothing runs, and another tenant is not held up', async (t) => {
  const { client, clientOf, tenants, engine } = await limitedApp(
    t,
    { tokensPerMinute: 100 },
    { freeTokens: 0 },
  );
  const running = client.completions.create({ ...BODY, max_tokens: 90 });
  running.catch(() => undefined);
  await engine.until(() => engine.requests.length === 1);
  await assert.rejects(client.completions.create(BODY), (error) => {
    assert(error instanceof RateLimitError && error.code === 'rate_limit_exceeded');
    assert.match(error.message, /tokens per minute: limit 100, requested 25; try again in 12s/);
    assert.equal(error.headers.get('x-ratelimit-remaining-tokens'), '5');
    return true;
  });
  assert.equal(engine.requests.length, 1);
  const other = clientOf(await makeKey(tenants, ['chat']));
  const free = other.completions.create({ ...BODY, max_tokens: 1 });
  await engine.until(() => engine.requests.length === 2);
  engine.step(1000);
  await Promise.all([running, free]);
});

test('a request without max_tokens is not refused for the room that it might take', async (t) => {
  const { client } = await limitedApp(t, { tokensPerMinute: 100 }, { script: says('abc') });
  const chat = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] };
  const { response, data } = await client.chat.completions.create(chat).withResponse();
  assert.equal(response.headers.get('x-ratelimit-remaining-tokens'), '0');
  const next = await client.completions.create({ ...BODY, max_tokens: 1 }).withResponse();
  const left = 100 - data.usage!.total_tokens;
  assert.equal(next.response.headers.get('x-ratelimit-remaining-tokens'), String(left - 6));
});

test('what the engine refuses costs no tokens', async (t) => {
  const { client } = await limitedApp(t, { tokensPerMinute: 1000 }, { capacity: 1, script: says('abc') });
  await assert.rejects(client.completions.create({ ...BODY, n: 2 }), (error) => {
    assert(error instanceof RateLimitError && error.code === 'queue_full');
    return true;
  });
  const { response } = await client.completions.create(BODY).withResponse();
  assert.equal(response.headers.get('x-ratelimit-remaining-tokens'), '975');
});

test('a cancelled request gives back what it had not used', async (t) => {
  const { client, engine } = await limitedApp(t, { tokensPerMinute: 1000 }, { freeTokens: 2 });
  const stream = await client.completions.create({ ...BODY, max_tokens: 900, stream: true });
  await engine.until(() => engine.numSteps === 2);
  stream.controller.abort();
  await engine.idle();
  const answer = client.completions.create({ ...BODY, max_tokens: 1 }).withResponse();
  engine.step(10);
  const { response } = await answer;
  assert.equal(response.headers.get('x-ratelimit-remaining-tokens'), String(1000 - 7 - 6));
});

test('a bad request counts as one and holds no tokens; an adapter that is refused is let go', async (t) => {
  const { client, adapters } = await limitedApp(
    t,
    { requestsPerMinute: 60, tokensPerMinute: 25 },
    { script: says('abc'), adapterNames: ['legal'] },
  );
  await assert.rejects(client.completions.create({ ...BODY, temperature: 9 }), (error) => {
    assert(error instanceof BadRequestError);
    assert.equal(error.headers.get('x-ratelimit-remaining-requests'), '59');
    assert.equal(error.headers.get('x-ratelimit-remaining-tokens'), '25');
    return true;
  });
  await client.completions.create({ ...BODY, model: 'tiny' });
  await assert.rejects(client.completions.create({ ...BODY, model: 'tiny' }), RateLimitError);
  assert.equal(adapters.numAcquired, adapters.numReleased);
});

test('without limits there are no such headers', async (t) => {
  const { client } = await limitedApp(t, {}, { script: says('abc') });
  const { response } = await client.completions.create(BODY).withResponse();
  assert.deepEqual(limitHeaders(response.headers), {});
});

test('wrong and narrow keys are the classes of the client, which does not try them again', async (t) => {
  const { clientOf, tenants } = await limitedApp(t, {});
  await assert.rejects(clientOf('sk-wrong', 5).models.list(), AuthenticationError);
  const narrow = await makeKey(tenants, ['train'], 'acme');
  await assert.rejects(clientOf(narrow, 5).completions.create(BODY), (error) => {
    assert(error instanceof PermissionDeniedError && error.code === 'not_permitted');
    assert.match(error.message, /needs a key with the scope chat; this one has train/);
    return true;
  });
});

test('a revoked key’s next request fails, while the stream that it began goes on to its end', async (t) => {
  const { client, tenants, engine } = await limitedApp(t, {}, { freeTokens: 1 });
  const stream = await client.completions.create({ ...BODY, max_tokens: 4, stream: true });
  const [key] = await tenants.listKeys('acme');
  await tenants.revokeKey(key!.id);
  await assert.rejects(client.completions.create(BODY), AuthenticationError);
  engine.step(10);
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? '';
  assert.equal(text.length, 4);
});
