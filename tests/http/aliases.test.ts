// Versions, rollback and aliases over HTTP: what a request's `model` comes to, and what the answer says of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorOf, jsonOf } from '../helpers/server-app.js';
import { BASE, tenantApp } from '../helpers/tenant-app.js';

async function openApp(t: Parameters<typeof tenantApp>[0], random = () => 0) {
  const app = await tenantApp(t, ['acme'], { deps: { random } });
  const acme = app.as('acme');
  for (const adapter of ['lora-qv-r8', 'lora-rslora'])
    assert.equal((await acme.upload('german', adapter)).status, 201);
  const served = async (...request: Parameters<typeof acme.chat>) => {
    const response = await acme.chat(...request);
    if (!response.ok) assert.fail(await response.text());
    const { model } = await jsonOf(response);
    assert.equal(model, request[0], 'the answer names what was asked for');
    return response.headers.get('x-served-model');
  };
  const put = (alias: string, body: object) => acme.ask('PUT', `/v1/aliases/${alias}`, body);
  return { ...app, acme, served, put };
}

test('a name is its current version, @ one of its versions, and rollback goes back in one call', async (t) => {
  const { acme, served } = await openApp(t);
  assert.equal(await served('german'), 'german@2');
  assert.equal(await served('acme/german'), 'german@2');
  assert.equal(await served('german@1'), 'german@1');
  assert.equal(await served(BASE), BASE);
  const back = await acme.ask('POST', '/v1/adapters/german/rollback');
  assert.deepEqual([back.status, (await jsonOf<{ version: number }>(back)).version], [200, 1]);
  assert.equal(await served('german'), 'german@1');
  const forth = await acme.ask('POST', '/v1/adapters/german/rollback', { version: 2 });
  assert.equal((await jsonOf<{ version: number }>(forth)).version, 2);
  interface Details {
    readonly versions: readonly { readonly id: string; readonly current: boolean }[];
  }
  const shown = await jsonOf<Details>(await acme.ask('GET', '/v1/adapters/german'));
  assert.deepEqual(
    shown.versions.map(({ id, current }) => [id, current]),
    [
      ['german@2', true],
      ['german@1', false],
    ],
  );
  for (const [body, status, param] of [
    [{ version: 9 }, 404, 'version'],
    [{ version: 0 }, 400, 'version'],
    [{ to: 1 }, 400, 'to'],
  ] as const) {
    const refused = await acme.ask('POST', '/v1/adapters/german/rollback', body);
    assert.deepEqual([refused.status, (await errorOf(refused)).param], [status, param]);
  }
  assert.equal((await acme.ask('DELETE', '/v1/adapters/german@1')).status, 400);
});

test('an alias is set, shown, listed, followed and deleted', async (t) => {
  const { acme, served, put } = await openApp(t);
  const set = await put('prod', { model: 'german@1' });
  assert.equal(set.status, 200);
  const object = await jsonOf<{ id: string; targets: unknown }>(set);
  assert.deepEqual([object.id, object.targets], ['prod', [{ model: 'german@1', weight: 100 }]]);
  assert.deepEqual(await jsonOf(await acme.ask('GET', '/v1/aliases/prod')), object);
  assert.deepEqual(await jsonOf(await acme.ask('GET', '/v1/aliases')), { object: 'list', data: [object] });
  assert.equal(await served('prod'), 'german@1');
  await put('prod', { model: 'german' });
  assert.equal(await served('prod'), 'german@2');
  interface Card {
    readonly id: string;
    readonly root: string;
  }
  const models = await jsonOf<{ data: readonly Card[] }>(await acme.ask('GET', '/v1/models'));
  assert.deepEqual(
    models.data.map(({ id }) => id),
    [BASE, 'prod', 'german'],
  );
  assert.equal((await jsonOf<Card>(await acme.ask('GET', '/v1/models/prod'))).root, 'german');
  assert.equal((await acme.ask('POST', '/tokenize', { model: 'prod', prompt: 'x' })).status, 200);
  assert.equal((await acme.ask('DELETE', '/v1/aliases/prod')).status, 200);
  assert.equal((await acme.ask('DELETE', '/v1/aliases/prod')).status, 404);
  assert.equal((await acme.chat('prod')).status, 404);
  assert.equal(await served('german'), 'german@2', 'what it stood for stays');
});

test('an alias goes before an adapter of its name, which its owner in front still reaches', async (t) => {
  const { acme, served, put } = await openApp(t);
  await put('german', { model: 'german@1' });
  assert.equal(await served('german'), 'german@1');
  assert.equal(await served('acme/german'), 'german@2');
  const { data } = await jsonOf<{ data: { id: string }[] }>(await acme.ask('GET', '/v1/models'));
  assert.deepEqual(
    data.map(({ id }) => id),
    [BASE, 'german'],
  );
});

test('a split draws for each request, and one user stays with one target', async (t) => {
  let drawn = 0;
  const { served, put } = await openApp(t, () => drawn);
  const targets = [
    { model: 'german@1', weight: 90 },
    { model: 'german', weight: 5 },
    { model: BASE, weight: 5 },
  ];
  assert.equal((await put('prod', { targets })).status, 200);
  const draws = [];
  for (drawn of [0, 0.89, 0.9, 0.94, 0.95, 0.99]) draws.push(await served('prod'));
  assert.deepEqual(draws, ['german@1', 'german@1', 'german@2', 'german@2', BASE, BASE]);
  // A key's target does not hang on the draw, and keys differ.
  const seen = new Set<string | null>();
  for (let user = 0; user < 60; user++) {
    drawn = 0;
    const first = await served('prod', { user: `u${user}` });
    drawn = 0.99;
    assert.equal(await served('prod', { user: `u${user}` }), first);
    const header = { 'x-gateway-inference-fairness-id': `u${user}` };
    assert.equal(await served('prod', {}, header), first);
    assert.equal(
      await served('prod', { user: `u${user}` }, { ...header, 'x-gateway-inference-fairness-id': 'z' }),
      first,
    );
    seen.add(first);
  }
  assert.ok(seen.size > 1, 'all users went to one target');
});

test('a target that is deleted later is named together with its alias', async (t) => {
  const { acme, put } = await openApp(t);
  await put('prod', { model: 'german@2' });
  await acme.ask('DELETE', '/v1/adapters/german');
  const response = await acme.chat('prod');
  const error = await errorOf(response);
  assert.deepEqual([response.status, error.code, error.param], [404, 'model_not_found', 'model']);
  assert.equal(
    error.message,
    'The alias `prod` stands for `german@2`, which does not exist any more; set it again with PUT /v1/aliases/prod',
  );
});

test('the alias `default` is what the model `default` means', async (t) => {
  const { acme, served, put } = await openApp(t);
  const unset = await acme.chat('default');
  assert.equal(unset.status, 404);
  assert.match(
    (await errorOf(unset)).message,
    /`default` is not set; set it with PUT \/v1\/aliases\/default/,
  );
  await put('default', { model: 'german' });
  assert.equal(await served('default'), 'german@2');
});

test('what an alias cannot be is refused by its field', async (t) => {
  const { put } = await openApp(t);
  for (const [alias, body, status, param] of [
    ['prod', {}, 400, 'model'],
    ['prod', { model: 'german', targets: [{ model: 'german', weight: 100 }] }, 400, 'model'],
    ['prod', { targets: [] }, 400, 'targets'],
    ['prod', { targets: [{ model: 'german', weight: 99 }] }, 400, 'targets'],
    ['prod', { targets: [{ model: 'german', weight: 'all' }] }, 400, 'targets.0.weight'],
    ['prod', { targets: [{ model: 'nobody', weight: 100 }] }, 404, 'targets.0.model'],
    ['prod', { model: 'german@9' }, 404, 'targets.0.model'],
    [BASE, { model: 'german' }, 400, 'alias'],
    ['a%2Fb', { model: 'german' }, 400, 'alias'],
  ] as const) {
    const refused = await put(alias, body);
    assert.deepEqual([refused.status, (await errorOf(refused)).param], [status, param], JSON.stringify(body));
  }
});
