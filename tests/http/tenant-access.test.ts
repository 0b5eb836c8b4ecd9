// Keys over HTTP: which key opens which route, and what is answered to keys that open nothing.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { SCOPES, type Scope } from '../../src/tenants/types.js';
import { says } from '../helpers/fake-engine.js';
import { errorOf, jsonOf, NOW_MS, testApp, type TestAppOptions } from '../helpers/server-app.js';
import { makeKey, testTenants } from '../helpers/tenants.js';

const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 };

/** An app over real tenants; both have the clock that `time` is. */
async function tenantApp(t: TestContext, options: TestAppOptions = {}) {
  const time = { nowMs: NOW_MS };
  const { tenants } = await testTenants(t, time);
  const app = testApp({ ...options, deps: { tenants, clock: () => time.nowMs, ...options.deps } });
  const ask = async (method: string, path: string, key: string | null, body?: unknown) =>
    app.app.request(path, {
      method,
      headers: key === null ? {} : { authorization: `Bearer ${key}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  return { ...app, tenants, time, ask };
}

/** Null is open to all; [] takes any key. */
const WANTED: Readonly<Record<string, readonly Scope[] | null>> = {
  'POST /v1/chat/completions': ['chat'],
  'POST /v1/completions': ['chat'],
  'GET /v1/models': ['chat'],
  'GET /v1/models/:model{.+}': ['chat'],
  'POST /tokenize': ['chat'],
  'POST /detokenize': ['chat'],
  'POST /v1/adapters': ['adapters'],
  'GET /v1/adapters': ['adapters', 'chat'],
  'POST /v1/load_lora_adapter': ['adapters'],
  'POST /v1/unload_lora_adapter': ['adapters'],
  'POST /v1/files': ['train'],
  'GET /v1/files': ['train'],
  'GET /v1/files/:file': ['train'],
  'GET /v1/files/:file/content': ['train'],
  'DELETE /v1/files/:file': ['train'],
  'POST /v1/fine_tuning/jobs': ['train'],
  'GET /v1/fine_tuning/jobs': ['train'],
  'GET /v1/fine_tuning/jobs/:job': ['train'],
  'POST /v1/fine_tuning/jobs/:job/cancel': ['train'],
  'POST /v1/fine_tuning/jobs/:job/pause': ['train'],
  'POST /v1/fine_tuning/jobs/:job/resume': ['train'],
  'GET /v1/fine_tuning/jobs/:job/events': ['train'],
  'GET /v1/fine_tuning/jobs/:job/checkpoints': ['train'],
  'POST /v1/admin/tenants': ['admin'],
  'GET /v1/admin/tenants': ['admin'],
  'GET /v1/admin/tenants/:tenant': ['admin'],
  'PUT /v1/admin/tenants/:tenant': ['admin'],
  'DELETE /v1/admin/tenants/:tenant': ['admin'],
  'POST /v1/admin/keys': ['admin'],
  'GET /v1/admin/keys': ['admin'],
  'POST /v1/admin/keys/:key/rotate': ['admin'],
  'DELETE /v1/admin/keys/:key': ['admin'],
  'GET /v1/admin/usage': ['admin'],
  'GET /health': null,
  'GET /ready': null,
  'GET /metrics': ['admin'],
  'GET /openapi.json': [],
};

/** Under these prefixes every route has the same rule. */
function wantedFor(method: string, path: string): readonly Scope[] | null | undefined {
  if (/^\/v1\/(adapters|aliases)(\/|$)/.test(path))
    return method === 'GET' ? ['adapters', 'chat'] : ['adapters'];
  return WANTED[`${method} ${path}`];
}

test('each scope against each route, with and without a key', async (t) => {
  const { app, tenants, ask } = await tenantApp(t);
  const keys = new Map<Scope, string>();
  for (const scope of SCOPES) keys.set(scope, await makeKey(tenants, [scope]));
  const routes = [
    ...new Set(
      app.routes.filter(({ method }) => method !== 'ALL').map(({ method, path }) => `${method} ${path}`),
    ),
  ];
  assert(routes.length >= Object.keys(WANTED).length);
  for (const route of routes) {
    const [method, pattern] = route.split(' ') as [string, string];
    const wanted = wantedFor(method, pattern);
    assert(wanted !== undefined, `this test does not know ${route}`);
    const path = pattern.replaceAll(/:\w+(\{.*?\})?/g, 'x');
    const withoutKey = await ask(method, path, null);
    assert.equal(withoutKey.status === 401, wanted !== null, `${route} without a key: ${withoutKey.status}`);
    for (const [scope, key] of keys) {
      const response = await ask(method, path, key);
      const isRefused: boolean =
        response.status === 403 && (await errorOf(response)).code === 'not_permitted';
      const isAllowed: boolean =
        wanted === null || wanted.length === 0 || scope === 'admin' || wanted.includes(scope);
      assert.equal(isRefused, !isAllowed, `${route} with ${scope}: ${response.status}`);
      assert.notEqual(response.status, 401, route);
    }
  }
});

test('without any key all routes are open, whatever bearer a client sends', async (t) => {
  const { ask } = await tenantApp(t, { script: says('ok') });
  for (const key of [null, 'none']) {
    assert.equal((await ask('POST', '/v1/chat/completions', key, CHAT)).status, 200);
    assert.equal((await ask('GET', '/v1/admin/keys', key)).status, 200);
    assert.equal((await ask('GET', '/metrics', key)).status, 200);
  }
});

test('the first key closes the server to the next request without one', async (t) => {
  const { ask } = await tenantApp(t, { script: says('ok') });
  const created = await ask('POST', '/v1/admin/keys', null, { tenant: 'default', scopes: ['admin'] });
  assert.equal(created.status, 201);
  assert.equal(created.headers.get('cache-control'), 'no-store');
  const { key } = await jsonOf<{ key: string }>(created);
  const refused = await ask('POST', '/v1/chat/completions', null, CHAT);
  assert.equal(refused.status, 401);
  assert.equal(refused.headers.get('www-authenticate'), 'Bearer');
  assert.equal((await ask('POST', '/v1/chat/completions', key, CHAT)).status, 200);
});

test('missing, misspelt, wrong, expired and revoked keys are 401 with their reason, and never repeated', async (t) => {
  const { app, tenants, time, ask, logged } = await tenantApp(t);
  const expiring = await makeKey(tenants, ['chat'], 'default', NOW_MS / 1000 + 10);
  const revoked = await tenants.createKey({ tenant: 'default', name: '', scopes: ['chat'], expiresAt: null });
  assert.equal((await ask('GET', '/v1/models', expiring)).status, 200);
  assert.equal((await ask('GET', '/v1/models', revoked.secret)).status, 200);
  await tenants.revokeKey(revoked.id);
  time.nowMs += 10_000;
  const cases: [string | null, RegExp][] = [
    [null, /asks for an API key/],
    ['sk-wrong', /not known/],
    [`${expiring}x`, /not known/],
    [expiring, /expired/],
    [revoked.secret, /revoked/],
  ];
  for (const [key, reason] of cases) {
    const response = await ask('GET', '/v1/models', key);
    assert.equal(response.status, 401);
    const error = await errorOf(response);
    assert.deepEqual(
      [error.code, error.type, error.param],
      ['invalid_api_key', 'authentication_error', null],
    );
    assert.match(error.message, reason);
    if (key !== null) assert(!error.message.includes(key));
  }
  for (const header of [expiring, `Basic ${expiring}`, `Bearer${expiring}`, 'Bearer', 'Bearer a b']) {
    const response = await app.request('/v1/models', { headers: { authorization: header } });
    assert.match((await errorOf(response)).message, /asks for an API key/, header);
  }
  assert.deepEqual(logged, []);
});

test('a path cannot be written so that a route asks for less', async (t) => {
  const { tenants, ask } = await tenantApp(t);
  const key = await makeKey(tenants, ['chat']);
  for (const path of [
    '/v1/%61dmin/keys',
    '/v1/admin/keys?x=/health',
    '/v1/admin/keys/',
    '/v1//admin/keys',
    '/V1/admin/keys',
  ]) {
    const { status } = await ask('GET', path, key);
    assert([403, 404].includes(status), `${path}: ${status}`);
    assert.equal((await ask('GET', path, null)).status, 401, path);
  }
  assert.equal((await ask('HEAD', '/v1/admin/keys', key)).status, 403);
  assert.equal((await ask('HEAD', '/v1/models', key)).status, 200);
  assert.equal((await ask('PATCH', '/v1/admin/keys', key)).status, 403);
});

test('unknown routes are told to nobody without a key', async (t) => {
  const { tenants, ask } = await tenantApp(t);
  const key = await makeKey(tenants, ['train']);
  assert.equal((await ask('GET', '/v1/none', null)).status, 401);
  assert.equal((await ask('GET', '/v1/none', key)).status, 404);
});

test('a refused key costs nothing: no body is read, no request is counted', async (t) => {
  const { tenants, ask, engine } = await tenantApp(t);
  await makeKey(tenants, ['chat']);
  assert.equal((await ask('POST', '/v1/chat/completions', 'sk-wrong', CHAT)).status, 401);
  assert.equal(engine.requests.length, 0);
  const sum = await tenants.usage.sum({ tenant: null, adapter: null, from: null, to: null, groupBy: [] });
  assert.deepEqual(sum, []);
});
