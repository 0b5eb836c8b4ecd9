// /v1/admin: tenants, keys and usage, as an operator works with them.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { says } from '../helpers/fake-engine.js';
import { errorOf, jsonOf, NOW_MS, testApp, type TestAppOptions } from '../helpers/server-app.js';
import { makeKey, testTenants } from '../helpers/tenants.js';

const NOW_S = NOW_MS / 1000;

async function adminApp(t: TestContext, options: TestAppOptions = {}) {
  const time = { nowMs: NOW_MS };
  const { tenants } = await testTenants(t, time);
  const admin = await makeKey(tenants, ['admin']);
  const { app, engine, adapters } = testApp({
    ...options,
    deps: { tenants, clock: () => time.nowMs, ...options.deps },
  });
  const ask = async (method: string, path: string, body?: unknown, key = admin) =>
    app.request(path, {
      method,
      headers: { authorization: `Bearer ${key}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const json = async (method: string, path: string, body?: unknown) => {
    const response = await ask(method, path, body);
    assert(response.ok, await response.clone().text());
    return jsonOf<Record<string, unknown>>(response);
  };
  return { ask, json, tenants, time, engine, adapters };
}

const NOTHING = {
  limits: { requests_per_minute: null, tokens_per_minute: null },
  quotas: { adapters: null, bytes: null, jobs: null },
  priority: 0,
};

test('a tenant is created, shown, changed as a whole and deleted', async (t) => {
  const { ask, json } = await adminApp(t);
  const acme = { id: 'acme', object: 'tenant', name: 'acme', created_at: NOW_S };
  const settings = {
    limits: { requests_per_minute: 60, tokens_per_minute: 10_000 },
    quotas: { adapters: 3, bytes: 1_000_000, jobs: 1 },
    priority: 2,
  };
  const created = await ask('POST', '/v1/admin/tenants', { name: 'acme', ...settings });
  assert.equal(created.status, 201);
  assert.equal(created.headers.get('location'), '/v1/admin/tenants/acme');
  assert.deepEqual(await jsonOf(created), { ...acme, ...settings });
  const held = { adapters: 0, bytes: 0, jobs: 0 };
  assert.deepEqual(await json('GET', '/v1/admin/tenants/acme'), { ...acme, ...settings, held });
  assert.deepEqual(await json('PUT', '/v1/admin/tenants/acme', { quotas: { jobs: 2 } }), {
    ...acme,
    ...NOTHING,
    quotas: { ...NOTHING.quotas, jobs: 2 },
  });
  assert.deepEqual(await json('PUT', '/v1/admin/tenants/acme', NOTHING), { ...acme, ...NOTHING });
  const { data } = await json('GET', '/v1/admin/tenants');
  assert.deepEqual(
    (data as { id: string }[]).map(({ id }) => id),
    ['acme', 'default'],
  );
  assert.deepEqual(await json('DELETE', '/v1/admin/tenants/acme'), {
    id: 'acme',
    object: 'tenant',
    deleted: true,
  });
  assert.equal((await ask('GET', '/v1/admin/tenants/acme')).status, 404);
});

test('refusals name the field', async (t) => {
  const { ask } = await adminApp(t);
  const refusal = async (method: string, path: string, body?: unknown) => {
    const { code, param } = await errorOf(await ask(method, path, body));
    return [code, param];
  };
  const tenants = '/v1/admin/tenants';
  const keys = '/v1/admin/keys';
  assert.deepEqual(await refusal('POST', tenants, { name: 'a/b' }), ['invalid_value', 'name']);
  assert.deepEqual(await refusal('POST', tenants, { name: 'default' }), ['tenant_exists', 'name']);
  assert.deepEqual(await refusal('POST', tenants, { name: 'a', limits: { requests_per_minute: 0 } }), [
    'invalid_value',
    'limits.requests_per_minute',
  ]);
  assert.deepEqual(await refusal('PUT', `${tenants}/default`, { quotas: { job: 1 } }), [
    'unsupported_parameter',
    'quotas.job',
  ]);
  assert.deepEqual(await refusal('PUT', `${tenants}/nobody`, {}), ['not_found', 'tenant']);
  assert.deepEqual(await refusal('DELETE', `${tenants}/default`), ['invalid_value', 'name']);
  assert.deepEqual(await refusal('POST', keys, { tenant: 'default', scopes: ['root'] }), [
    'invalid_value',
    'scopes.0',
  ]);
  assert.deepEqual(await refusal('POST', keys, { tenant: 'default' }), ['invalid_value', 'scopes']);
  assert.deepEqual(await refusal('POST', keys, { tenant: 'nobody', scopes: ['chat'] }), [
    'not_found',
    'tenant',
  ]);
  assert.deepEqual(await refusal('POST', keys, { tenant: 'default', scopes: ['chat'], expires_at: NOW_S }), [
    'invalid_value',
    'expires_at',
  ]);
  assert.deepEqual(await refusal('POST', `${keys}/key_none/rotate`, {}), ['not_found', 'key']);
  assert.deepEqual(await refusal('DELETE', `${keys}/key_none`), ['not_found', 'key']);
  assert.deepEqual(await refusal('GET', '/v1/admin/usage?from=yesterday'), ['invalid_value', 'from']);
  assert.deepEqual(await refusal('GET', '/v1/admin/usage?group_by=hour'), ['invalid_value', 'group_by']);
});

test('a tenant that holds something is not deleted', async (t) => {
  const { ask, tenants } = await adminApp(t, {
    deps: {
      training: {
        ...(await import('../helpers/server-app.js')).noTraining,
        holdings: async () => ({ numJobs: 1, sizeBytes: 5 }),
      },
    },
  });
  await ask('POST', '/v1/admin/tenants', { name: 'acme' });
  const key = await makeKey(tenants, ['chat'], 'acme');
  const { code, message } = await errorOf(await ask('DELETE', '/v1/admin/tenants/acme'));
  assert.equal(code, 'invalid_value');
  assert.match(message, /got 0 adapters, 5 stored bytes and 1 jobs/);
  assert.equal((await ask('GET', '/v1/models', undefined, key)).status, 200);
});

test('a key is shown when it is made and never again; rotated and revoked, the next request with it fails', async (t) => {
  const { ask, json, time } = await adminApp(t);
  const models = async (key: unknown) => (await ask('GET', '/v1/models', undefined, String(key))).status;
  const made = await json('POST', '/v1/admin/keys', { tenant: 'default', name: 'laptop', scopes: ['chat'] });
  const { key, ...rest } = made;
  assert.match(String(key), /^sk-[\w-]{43}$/);
  assert.equal(rest['prefix'], String(key).slice(0, 9));
  assert.equal(await models(key), 200);
  const list = JSON.stringify(await json('GET', '/v1/admin/keys?tenant=default'));
  assert(list.includes(String(rest['id'])) && !list.includes(String(key)));
  const rotated = await json('POST', `/v1/admin/keys/${String(rest['id'])}/rotate`, { overlap_seconds: 60 });
  assert.deepEqual([await models(key), await models(rotated['key'])], [200, 200]);
  time.nowMs += 60_000;
  assert.deepEqual([await models(key), await models(rotated['key'])], [401, 200]);
  const revoked = await json('DELETE', `/v1/admin/keys/${String(rotated['id'])}`);
  assert.deepEqual([revoked['status'], revoked['revoked_at']], ['revoked', NOW_S + 60]);
  assert.equal(await models(rotated['key']), 401);
  const { data } = await json('GET', '/v1/admin/keys?tenant=default');
  assert.deepEqual(
    (data as { status: string; last_used_at: number | null }[])
      .toSorted((one, other) => one.status.localeCompare(other.status))
      .map((one) => [one.status, one.last_used_at]),
    [
      ['active', NOW_S + 60],
      ['expired', NOW_S],
      ['revoked', NOW_S + 60],
    ],
  );
});

test('usage: whole, streamed, combined and refused requests, by adapter', async (t) => {
  const { ask, json, tenants } = await adminApp(t, {
    script: says('abc'),
    numCachedTokens: 2,
    adapterNames: ['legal'],
  });
  await tenants.createTenant('acme', {
    limits: { requestsPerMinute: null, tokensPerMinute: null },
    quotas: { adapters: null, bytes: null, jobs: null },
    priority: 0,
  });
  const acme = await makeKey(tenants, ['chat'], 'acme');
  const complete = async (body: object, key: string) => {
    const response = await ask('POST', '/v1/completions', { prompt: 'hello', max_tokens: 9, ...body }, key);
    await response.text();
    return response.status;
  };
  const mine = await makeKey(tenants, ['chat']);
  assert.equal(await complete({ model: 'tiny' }, mine), 200);
  assert.equal(await complete({ model: 'tiny', stream: true }, mine), 200);
  assert.equal(await complete({ model: 'legal', n: 2 }, mine), 200);
  assert.equal(await complete({ model: 'tiny', temperature: 9 }, mine), 400);
  assert.equal(await complete({ model: 'tiny' }, acme), 200);
  const { data } = await json('GET', '/v1/admin/usage?group_by=tenant,adapter');
  const row = (
    tenant: string,
    adapter: string | null,
    requests: number,
    prompt: number,
    cached: number,
    completion: number,
  ) => ({
    object: 'usage',
    tenant,
    adapter,
    requests,
    prompt_tokens: prompt,
    cached_tokens: cached,
    completion_tokens: completion,
  });
  assert.deepEqual(data, [
    row('acme', null, 1, 5, 2, 3),
    row('default', null, 2, 10, 4, 6),
    row('default', 'legal', 1, 5, 2, 6),
  ]);
  const { data: days } = await json('GET', '/v1/admin/usage?tenant=acme');
  assert.deepEqual(
    (days as { day: string }[]).map(({ day }) => day),
    ['2023-11-14'],
  );
});

test('a stream whose client goes counts what was made until then', async (t) => {
  const { ask, json, engine } = await adminApp(t, { freeTokens: 3 });
  const body = { model: 'tiny', prompt: 'hello', max_tokens: 50, stream: true };
  const response = await ask('POST', '/v1/completions', body);
  const reader = response.body!.getReader();
  await reader.read();
  await engine.until(() => engine.numSteps === 3);
  await reader.cancel();
  await engine.idle();
  const { data } = await json('GET', '/v1/admin/usage?group_by=tenant');
  assert.deepEqual(
    (data as object[]).map((row) => ({ ...row })),
    [
      {
        object: 'usage',
        tenant: 'default',
        requests: 1,
        prompt_tokens: 5,
        cached_tokens: 0,
        completion_tokens: 3,
      },
    ],
  );
});

test('metrics tell of tenants, and of no key', async (t) => {
  const { ask, tenants } = await adminApp(t, { script: says('abc') });
  const key = await makeKey(tenants, ['chat']);
  await (await ask('POST', '/v1/completions', { model: 'tiny', prompt: 'hello' }, key)).text();
  const text = await (await ask('GET', '/metrics')).text();
  assert.match(text, /^tenant_requests_total\{tenant="default"\} 1$/m);
  assert.match(text, /^tenant_tokens_total\{tenant="default",kind="completion"\} 3$/m);
  assert(!text.includes(key.slice(0, 9)) && !text.includes('key_'));
});
