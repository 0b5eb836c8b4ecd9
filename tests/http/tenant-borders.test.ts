// Two tenants with keys of their own over the whole application: every way to another's names, versions, files and jobs is tried, and each
// is answered, to the letter, like the way to nothing.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { adapterFiles } from '../helpers/adapter-fixtures.js';
import { trainingLines } from '../helpers/fake-training-run.js';
import { errorOf, jsonOf } from '../helpers/server-app.js';
import { BASE, type TenantClient, tenantApp } from '../helpers/tenant-app.js';
import { isOver, untilJob } from '../helpers/training-jobs.js';
import { letGo } from '../helpers/training-app.js';

interface Named {
  readonly id: string;
}
interface Listed {
  readonly data: readonly Named[];
}

/** Everything that an answer tells but its own id and times, with the name that was asked for made one. */
async function toldOf(response: Response, name: string) {
  const own = new Set(['x-request-id', 'openai-processing-ms', 'date']);
  const headers = [...response.headers].filter(
    ([header]) => !own.has(header) && !header.startsWith('x-ratelimit-'),
  );
  const text = await response.text();
  const plain = name.slice(name.lastIndexOf('/') + 1);
  return {
    status: response.status,
    headers: headers.filter(([header]) => header !== 'content-length'),
    text: text
      .replaceAll(encodeURIComponent(name), 'NAME')
      .replaceAll(name, 'NAME')
      .replaceAll(plain, 'NAME'),
  };
}

async function sameFor(ask: (name: string) => Promise<Response>, theirs: string, absent: string) {
  const [one, other] = [await toldOf(await ask(theirs), theirs), await toldOf(await ask(absent), absent)];
  assert.deepEqual(one, other);
  assert.ok(one.status >= 400 && one.status < 500, `${one.status} ${one.text}`);
}

const idsOf = async (client: TenantClient, path: string) =>
  (await jsonOf<Listed>(await client.ask('GET', path))).data.map(({ id }) => id);

async function ok(response: Response): Promise<Response> {
  if (!response.ok) assert.fail(`${response.status} ${await response.text()}`);
  return response;
}

async function idOf(response: Response): Promise<string> {
  return (await jsonOf<Named>(await ok(response))).id;
}

test('adapters: no name, version or alias target leads to another tenant', async (t) => {
  const app = await tenantApp(t, ['acme', 'bolt']);
  const [acme, bolt] = [app.as('acme'), app.as('bolt')];
  await ok(await acme.upload('theirs'));
  await ok(await acme.upload('theirs', 'lora-rslora'));
  await ok(await acme.ask('PUT', '/v1/aliases/theiralias', { model: 'theirs@1' }));
  const ways: ((name: string) => Promise<Response>)[] = [
    (name) => bolt.chat(name),
    (name) => bolt.ask('POST', '/v1/completions', { model: name, prompt: 'x', max_tokens: 1 }),
    (name) => bolt.chat(BASE, { adapters: [{ name, scale: 0.5 }] }),
    (name) => bolt.ask('POST', '/tokenize', { model: name, prompt: 'x' }),
    (name) => bolt.ask('POST', '/detokenize', { model: name, tokens: [65] }),
    (name) => bolt.ask('GET', `/v1/models/${encodeURIComponent(name)}`),
    (name) => bolt.ask('GET', `/v1/adapters/${encodeURIComponent(name)}`),
    (name) => bolt.ask('PUT', '/v1/aliases/a', { model: name }),
    (name) => bolt.ask('POST', '/v1/fine_tuning/jobs', { model: name, training_file: 'file-x' }),
    (name) => bolt.ask('DELETE', `/v1/adapters/${encodeURIComponent(name)}`),
    (name) => bolt.ask('POST', `/v1/adapters/${encodeURIComponent(name)}/rollback`),
    (name) => bolt.ask('POST', `/v1/adapters/${encodeURIComponent(name)}/rollback`, { version: 1 }),
    (name) => bolt.ask('PUT', `/v1/adapters/${encodeURIComponent(name)}/shares/bolt`),
    (name) => bolt.ask('PUT', `/v1/adapters/${encodeURIComponent(name)}/shares/zinc`),
    (name) => bolt.ask('DELETE', `/v1/adapters/${encodeURIComponent(name)}/shares/bolt`),
  ];
  for (const [theirs, absent] of [
    ['theirs', 'absent'],
    ['acme/theirs', 'acme/absent'],
    ['theirs@1', 'absent@1'],
    ['acme/theirs@1', 'acme/absent@1'],
    ['theiralias', 'absent'],
    ['acme/theiralias', 'acme/absent'],
  ] as const)
    for (const way of ways) await sameFor(way, theirs, absent);
  await sameFor((name) => bolt.ask('GET', `/v1/aliases/${name}`), 'theiralias', 'absent');
  await sameFor((name) => bolt.ask('DELETE', `/v1/aliases/${name}`), 'theiralias', 'absent');
  await sameFor((name) => bolt.upload(`acme/${name}`), 'theirs', 'absent');
  assert.deepEqual(await idsOf(bolt, '/v1/models'), [BASE]);
  assert.deepEqual(await idsOf(bolt, '/v1/adapters'), []);
  assert.deepEqual(await idsOf(bolt, '/v1/aliases'), []);
  assert.deepEqual(await idsOf(acme, '/v1/models'), [BASE, 'theiralias', 'theirs']);
  assert.equal((await acme.chat('theirs')).headers.get('x-served-model'), 'theirs@2');
});

test('the same name of both is two adapters', async (t) => {
  const app = await tenantApp(t, ['acme', 'bolt']);
  const [acme, bolt] = [app.as('acme'), app.as('bolt')];
  interface Info {
    readonly hash: string;
    readonly version: number;
    readonly owner: string;
  }
  const a = await jsonOf<Info>(await ok(await acme.upload('x')));
  const b = await jsonOf<Info>(await ok(await bolt.upload('x', 'lora-rslora')));
  assert.deepEqual([a.version, a.owner, b.version, b.owner], [1, 'acme', 1, 'bolt']);
  await ok(await bolt.ask('DELETE', '/v1/adapters/x'));
  assert.equal((await jsonOf<Info>(await acme.ask('GET', '/v1/adapters/x'))).hash, a.hash);
  await ok(await acme.chat('x'));
  assert.equal(app.engine.requests.at(-1)!.adapter!.hash, a.hash);
});

test('what is shared is used by owner and name until that ends, and requests under way go on', async (t) => {
  const app = await tenantApp(t, ['acme', 'bolt', 'zinc'], { freeTokens: 0 });
  const [acme, bolt, zinc] = [app.as('acme'), app.as('bolt'), app.as('zinc')];
  await ok(await acme.upload('lent'));
  await ok(await acme.ask('PUT', '/v1/adapters/lent/shares/bolt'));
  const running = bolt.chat('acme/lent', { max_tokens: 3 });
  while (app.engine.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await idsOf(bolt, '/v1/models'), [BASE, 'acme/lent']);
  assert.deepEqual(await idsOf(zinc, '/v1/models'), [BASE]);
  for (const [method, path] of [
    ['DELETE', '/v1/adapters/acme/lent'],
    ['DELETE', '/v1/adapters/acme%2Flent'],
    ['POST', '/v1/adapters/acme%2Flent/rollback'],
    ['PUT', '/v1/adapters/acme%2Flent/shares/zinc'],
  ] as const) {
    const refused = await bolt.ask(method, path);
    assert.deepEqual([refused.status, (await errorOf(refused)).code], [403, 'not_permitted']);
  }
  interface Details {
    readonly owner: string;
    readonly versions: readonly Named[];
    readonly shared_with?: readonly string[];
  }
  const seen = await jsonOf<Details>(await bolt.ask('GET', '/v1/adapters/acme/lent'));
  assert.deepEqual([seen.owner, seen.versions[0]!.id, seen.shared_with], ['acme', 'acme/lent@1', undefined]);
  const own = await jsonOf<Details>(await acme.ask('GET', '/v1/adapters/lent'));
  assert.deepEqual(own.shared_with, ['bolt']);
  await ok(await bolt.ask('PUT', '/v1/aliases/prod', { model: 'acme/lent' }));
  await ok(await acme.ask('DELETE', '/v1/adapters/lent/shares/bolt'));
  await sameFor((name) => bolt.chat(name), 'acme/lent', 'acme/absent');
  const broken = await errorOf(await bolt.chat('prod'));
  assert.equal(broken.code, 'model_not_found');
  assert.match(broken.message, /alias `prod` stands for `acme\/lent`, which does not exist any more/);
  const again = await acme.ask('DELETE', '/v1/adapters/lent/shares/bolt');
  assert.deepEqual([again.status, (await errorOf(again)).param], [404, 'tenant']);
  app.engine.step(10);
  const answer = await ok(await running);
  assert.equal(answer.headers.get('x-served-model'), 'acme/lent@1');
});

test("files and jobs: another tenant's ids are as ids that never were", async (t) => {
  const app = await tenantApp(t, ['acme', 'bolt']);
  const [acme, bolt] = [app.as('acme'), app.as('bolt')];
  const lines = trainingLines(4, { do: 'wait', step: 2 });
  const file = await idOf(await acme.uploadExamples(lines));
  const jobs = '/v1/fine_tuning/jobs';
  const body = {
    model: BASE,
    training_file: file,
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1, batch_size: 1 } } },
    x_graft: { adapter_name: 'made' },
  };
  const job = await idOf(await acme.ask('POST', jobs, body));
  const theirs = app.training.of('acme');
  await untilJob(theirs, job, ({ step }) => step === 1);
  const [event] = (await theirs.events(job, { after: null, limit: 1 })).items;

  const none = 'file-000000000000000000000000';
  const noJob = 'ftjob-000000000000000000000000';
  for (const way of [
    (id: string) => bolt.ask('GET', `/v1/files/${id}`),
    (id: string) => bolt.ask('GET', `/v1/files/${id}/content`),
    (id: string) => bolt.ask('DELETE', `/v1/files/${id}`),
    (id: string) => bolt.ask('GET', `/v1/files?after=${id}`),
    (id: string) => bolt.ask('POST', jobs, { ...body, training_file: id }),
  ])
    await sameFor(way, file, none);
  const ownFile = await idOf(await bolt.uploadExamples(lines));
  const withValidation = { ...body, training_file: ownFile };
  await sameFor((id) => bolt.ask('POST', jobs, { ...withValidation, validation_file: id }), file, none);
  for (const way of [
    (id: string) => bolt.ask('GET', `${jobs}/${id}`),
    (id: string) => bolt.ask('POST', `${jobs}/${id}/cancel`),
    (id: string) => bolt.ask('POST', `${jobs}/${id}/pause`),
    (id: string) => bolt.ask('POST', `${jobs}/${id}/resume`),
    (id: string) => bolt.ask('GET', `${jobs}/${id}/events`),
    (id: string) => bolt.ask('GET', `${jobs}/${id}/events?stream=true`),
    (id: string) => bolt.ask('GET', `${jobs}/${id}/events?after=${event!.id}`),
    (id: string) => bolt.ask('GET', `${jobs}/${id}/checkpoints`),
    (id: string) => bolt.ask('GET', `${jobs}?after=${id}`),
  ])
    await sameFor(way, job, noJob);
  assert.deepEqual(await idsOf(bolt, '/v1/files'), [ownFile]);
  assert.deepEqual(await idsOf(bolt, jobs), []);
  assert.deepEqual(await idsOf(acme, '/v1/files'), [file]);
  assert.deepEqual(await idsOf(acme, jobs), [job]);

  letGo(app.dataDir, job);
  assert.equal((await untilJob(theirs, job, isOver)).status, 'succeeded');
  assert.ok((await idsOf(acme, '/v1/models')).includes('made'), 'a job publishes to its own tenant');
  assert.deepEqual(await idsOf(bolt, '/v1/models'), [BASE]);
  assert.deepEqual(await idsOf(bolt, '/v1/files'), [ownFile], 'so is its log');
  const log = (await idsOf(acme, '/v1/files')).find((id) => id !== file)!;
  await sameFor((id) => bolt.ask('GET', `/v1/files/${id}/content`), log, none);
  await ok(await acme.ask('GET', `/v1/files/${log}/content`));
});

test("a job's name is its tenant's, even where the operator shares one of that name", async (t) => {
  const app = await tenantApp(t, ['acme']);
  const operator = app.adapters.of('default');
  await operator.register('made', adapterFiles(BASE, 'lora-qv-r8'));
  await app.adapters.publish('made');
  const acme = app.as('acme');
  const file = await idOf(await acme.uploadExamples(trainingLines(2)));
  const body = { model: BASE, training_file: file, x_graft: { adapter_name: 'made' } };
  const job = await idOf(await acme.ask('POST', '/v1/fine_tuning/jobs', body));
  await untilJob(app.training.of('acme'), job, isOver);
  const info = await app.adapters.of('acme').get('made');
  assert.deepEqual(
    [info!.owner, info!.version],
    ['acme', 1],
    'equal files of another tenant are not its own',
  );
  assert.equal((await operator.get('made'))!.version, 1);
});

test("vLLM's load and unload act for the caller's tenant", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'runtime-lora-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'german'));
  const deps = {
    runtimeLora: { folder },
    readAdapterFolder: async () => adapterFiles(BASE, 'lora-qv-r8'),
  };
  const app = await tenantApp(t, ['acme', 'bolt'], { deps });
  const [acme, bolt] = [app.as('acme'), app.as('bolt')];
  await ok(await acme.ask('POST', '/v1/load_lora_adapter', { lora_name: 'german', lora_path: 'german' }));
  const unload = (name: string) => bolt.ask('POST', '/v1/unload_lora_adapter', { lora_name: name });
  await sameFor(unload, 'german', 'absent');
  await ok(await bolt.ask('POST', '/v1/load_lora_adapter', { lora_name: 'german', lora_path: 'german' }));
  await ok(await unload('german'));
  assert.deepEqual(await idsOf(acme, '/v1/adapters'), ['german']);
});
