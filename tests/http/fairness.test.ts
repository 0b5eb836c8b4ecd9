// What a request is scheduled by: its caller's tenant and priority, never the client's word for them, and the fairness id of its header.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hono } from 'hono';
import type { FairClaim } from '../../src/engine/types.js';
import { claimOf } from '../../src/server/fair-claim.js';
import type { ServerEnv } from '../../src/server/services.js';
import type { Caller } from '../../src/tenants/types.js';
import { says } from '../helpers/fake-engine.js';
import { errorOf, jsonOf, testApp } from '../helpers/server-app.js';

const HEADER = 'x-gateway-inference-fairness-id';
const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 };

async function claimFor(caller: Partial<Caller>, headers: Record<string, string>): Promise<FairClaim> {
  const app = new Hono<ServerEnv>();
  app.use(async (c, next) => {
    c.set('caller', { tenant: 'acme', keyId: 'k', scopes: new Set(), priority: 0, ...caller });
    await next();
  });
  app.get('/', (c) => c.json({ ...claimOf(c) }));
  return jsonOf(await app.request('/', { headers }));
}

test('tenant and priority are the caller’s, the id is the header’s', async () => {
  assert.deepEqual(await claimFor({}, {}), { tenant: 'acme', fairnessId: null, priority: 0 });
  assert.deepEqual(await claimFor({ priority: -2 }, { [HEADER]: ' team-1 ' }), {
    tenant: 'acme',
    fairnessId: 'team-1',
    priority: -2,
  });
  assert.equal((await claimFor({}, { [HEADER]: '' })).fairnessId, null);
  assert.equal((await claimFor({ tenant: 'b' }, { [HEADER]: 'acme' })).tenant, 'b');
});

test('every sequence of a request has its claim', async () => {
  const { engine, post } = testApp({ script: says('ok') });
  const headers = { [HEADER]: 'team-1' };
  await post('/v1/chat/completions', { ...CHAT, n: 2 }, { headers });
  await post('/v1/completions', { model: 'tiny', prompt: ['a', 'b'], max_tokens: 2 }, { headers });
  await post('/v1/chat/completions', CHAT);
  assert.deepEqual(
    engine.requests.map(({ tenant, fairnessId, priority }) => [tenant, fairnessId, priority]),
    [...Array.from({ length: 4 }, () => ['default', 'team-1', 0]), ['default', null, 0]],
  );
});

test('a fairness id that is too long is refused before anything runs', async () => {
  const { engine, post } = testApp();
  assert.equal((await claimFor({}, { [HEADER]: 'x'.repeat(256) })).fairnessId?.length, 256);
  const answer = await post('/v1/chat/completions', CHAT, { headers: { [HEADER]: 'x'.repeat(257) } });
  const error = await errorOf(answer);
  assert.deepEqual([answer.status, error.code, error.param], [400, 'invalid_value', HEADER]);
  assert.match(error.message, /at most 256 characters, got 257/);
  assert.equal(engine.requests.length, 0);
});

test('a client cannot give itself a priority', async () => {
  const { engine, post } = testApp();
  const answer = await post('/v1/chat/completions', { ...CHAT, priority: 9 });
  assert.equal(answer.status, 400);
  assert.equal(engine.requests.length, 0);
});
