// Tenants over one real folder and one real SQLite file: whose an adapter is, with whom it is shared, its versions and the aliases.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type AdapterServiceOptions, createAdapterService } from '../../src/adapters/service.js';
import { GatewayError } from '../../src/errors.js';
import { adapterFiles, fixtureBase } from '../helpers/adapter-fixtures.js';

const base = fixtureBase('llama-tied');
const lora = (name: string) => adapterFiles('llama-tied', name);
const [ONE, TWO, THREE, FOUR] = ['lora-qv-r8', 'lora-rslora', 'lora-all-r8', 'lora-mixed'].map(lora) as [
  Map<string, Uint8Array>,
  Map<string, Uint8Array>,
  Map<string, Uint8Array>,
  Map<string, Uint8Array>,
];

async function open(t: TestContext, options: Partial<AdapterServiceOptions> = {}) {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'adapters-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const service = await createAdapterService({
    base,
    cacheBytes: 1 << 20,
    keptVersions: 3,
    runPrompt: () => Promise.reject(new Error('no prompts here')),
    ...options,
    dataDir,
  });
  t.after(() => service.dispose());
  return {
    service,
    dataDir,
    acme: service.of('acme'),
    bolt: service.of('bolt'),
    blobs: () => readdirSync(join(dataDir, 'adapters')).toSorted(),
  };
}

/** What an error tells, with the name in it made one. */
async function told(call: Promise<unknown>, name: string) {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof GatewayError, String(error));
    return { code: error.code, param: error.param, message: error.message.replaceAll(name, 'NAME') };
  }
  assert.fail(`${name} was not refused`);
}

test('one name is two adapters of two tenants', async (t) => {
  const { acme, bolt } = await open(t);
  const a = await acme.register('x', ONE);
  const b = await bolt.register('x', TWO);
  assert.deepEqual([a.version, a.owner, b.version, b.owner], [1, 'acme', 1, 'bolt']);
  assert.deepEqual(await acme.list(), [a]);
  assert.deepEqual(await bolt.get('x'), b);
  const lease = await bolt.acquire('x');
  assert.equal(lease.adapter.hash, b.hash);
  lease.release();
  assert.equal(await bolt.remove('x'), true);
  assert.deepEqual(await acme.get('x'), a);
});

test('what another tenant has is as what nobody has, whatever is asked', async (t) => {
  const { acme, bolt } = await open(t);
  await acme.register('theirs', ONE);
  await acme.register('theirs', TWO);
  const part = (name: string) => bolt.acquireCombination([{ name, scale: 0.5 }]);
  const whole = { weight: 100 };
  for (const [theirs, absent] of [
    ['theirs', 'absent'],
    ['acme/theirs', 'acme/absent'],
    ['theirs@1', 'absent@1'],
    ['acme/theirs@2', 'acme/absent@2'],
  ] as const) {
    for (const call of [
      (name: string) => bolt.acquire(name),
      part,
      (name: string) => bolt.aliases.set('a', [{ model: name, ...whole }]),
    ])
      assert.deepEqual(await told(call(theirs), theirs), await told(call(absent), absent));
    for (const name of [theirs, absent]) {
      assert.equal(await bolt.get(name), null);
      assert.deepEqual(await bolt.versions(name), []);
      assert.equal(await bolt.grantees(name), null);
    }
  }
  for (const name of ['theirs', 'acme/theirs', 'absent', 'acme/absent']) {
    assert.equal(await bolt.remove(name), false);
    assert.equal(await bolt.rollback(name, 1), null);
    assert.equal(await bolt.share(name, 'bolt2'), false);
    assert.equal(await bolt.unshare(name, 'bolt2'), false);
  }
  const refused = { code: 'invalid_value', param: 'name' };
  await assert.rejects(bolt.register('acme/theirs', ONE), refused);
  await assert.rejects(bolt.register('acme/absent', ONE), refused);
  assert.deepEqual(await bolt.list(), []);
  assert.equal((await acme.get('theirs'))!.version, 2);
});

test("a shared adapter is its owner's: others use it by owner and name, and may not change it", async (t) => {
  const { service, acme, bolt } = await open(t);
  const { hash } = await acme.register('x', ONE);
  assert.equal(await acme.share('x', 'bolt'), true);
  assert.equal(await acme.share('acme/x', 'bolt'), true, 'again is no error');
  assert.deepEqual(await acme.grantees('x'), ['bolt']);
  assert.equal(await bolt.grantees('acme/x'), null);
  assert.equal(await bolt.get('x'), null, 'not by its plain name');
  assert.deepEqual(
    (await bolt.list()).map(({ name, owner }) => [name, owner]),
    [['acme/x', 'acme']],
  );
  const lease = await bolt.acquire('acme/x@1');
  assert.deepEqual([lease.adapter.hash, lease.info.name, lease.info.version], [hash, 'acme/x', 1]);
  assert.deepEqual(
    service.resident().map(({ name }) => name),
    ['acme/x'],
  );
  for (const change of [
    bolt.remove('acme/x'),
    bolt.rollback('acme/x', null),
    bolt.share('acme/x', 'zinc'),
    bolt.unshare('acme/x', 'bolt'),
  ])
    await assert.rejects(change, {
      code: 'not_permitted',
      param: 'name',
      message: /belongs to the tenant `acme`/,
    });
  assert.deepEqual(await service.of('zinc').list(), [], 'it is shared with nobody else');
  assert.equal(await acme.unshare('x', 'zinc'), false);
  assert.equal(await acme.unshare('x', 'bolt'), true);
  await assert.rejects(bolt.acquire('acme/x'), { code: 'model_not_found' });
  assert.equal(lease.adapter.hash, hash, 'a request under way goes on');
  lease.release();
  assert.ok(await acme.get('x'));
});

test('a grant to all is for every tenant, and goes with the name', async (t) => {
  const { service, acme, bolt } = await open(t);
  await acme.register('x', ONE);
  await acme.share('x', '*');
  await acme.share('x', 'bolt');
  for (const tenant of ['bolt', 'new']) {
    const seen = await service.of(tenant).list();
    assert.deepEqual(
      seen.map(({ name }) => name),
      ['acme/x'],
    );
  }
  await acme.remove('x');
  await acme.register('x', TWO);
  assert.equal(await bolt.get('acme/x'), null, 'another adapter of the name is not shared');
  for (const grantee of ['acme', '', 'a/b', 'a b', '**', 'x'.repeat(65)])
    await assert.rejects(acme.share('x', grantee), { code: 'invalid_value', param: 'tenant' });
});

test("the operator's adapters are everybody's under their plain names, but own names win", async (t) => {
  const { service, bolt } = await open(t);
  const { hash } = await service.of('default').register('legal', ONE);
  await service.publish('legal');
  await service.publish('legal');
  assert.equal((await bolt.get('legal'))!.hash, hash);
  assert.deepEqual(
    (await bolt.list()).map(({ name }) => name),
    ['legal'],
  );
  await assert.rejects(bolt.remove('legal'), { code: 'not_permitted' });
  const own = await bolt.register('legal', TWO);
  assert.equal(own.version, 1, 'it is a name of its own, not a version of the shared one');
  assert.equal((await bolt.get('legal'))!.hash, own.hash);
  assert.equal((await bolt.get('bolt/legal'))!.hash, own.hash);
  assert.equal((await bolt.get('default/legal'))!.hash, hash);
  assert.deepEqual(
    (await bolt.list()).map(({ name }) => name),
    ['legal', 'default/legal'],
  );
  assert.equal(await bolt.get('legal@2'), null, 'no version of the shared one is taken for an own one');
  await bolt.remove('legal');
  assert.equal((await bolt.get('legal'))!.hash, hash);
});

test('the last versions are kept and addressed, the oldest goes with its files', async (t) => {
  const { service, acme, blobs } = await open(t);
  const infos = [];
  for (const files of [ONE, TWO, THREE]) infos.push(await acme.register('x', files));
  const old = await acme.acquire('x@1');
  infos.push(await acme.register('x', FOUR));
  assert.deepEqual(
    (await acme.versions('x')).map(({ info, isCurrent }) => [info.version, isCurrent]),
    [
      [4, true],
      [3, false],
      [2, false],
    ],
  );
  await assert.rejects(acme.acquire('x@1'), { code: 'model_not_found', message: /"x@1"/ });
  assert.equal(old.adapter.hash, infos[0]!.hash);
  assert.ok(blobs().includes(infos[0]!.hash), 'a pinned version has its files');
  old.release();
  const third = await acme.acquire('acme/x@3');
  assert.deepEqual([third.adapter.hash, third.info.version], [infos[2]!.hash, 3]);
  third.release();
  assert.equal(await acme.remove('x'), true);
  assert.equal(await acme.get('x@3'), null);
  await service.dispose();
  assert.deepEqual(blobs(), []);
});

test('versions that share their files go one by one', async (t) => {
  const { acme, blobs } = await open(t, { keptVersions: 1 });
  const { hash } = await acme.register('x', ONE);
  await acme.register('x', ONE);
  assert.deepEqual(blobs(), [hash]);
  const two = await acme.register('x', TWO);
  assert.deepEqual(blobs(), [two.hash]);
});

test('rollback makes an earlier version current in one call, and survives a restart', async (t) => {
  const { service, acme, dataDir } = await open(t);
  const [one, two, three] = [
    await acme.register('x', ONE),
    await acme.register('x', TWO),
    await acme.register('x', THREE),
  ];
  assert.deepEqual(await acme.rollback('x', null), two);
  assert.deepEqual(await acme.rollback('acme/x', null), one);
  await assert.rejects(acme.rollback('x', null), {
    code: 'not_found',
    param: 'version',
    message: /no version before 1, the current one; it has 1, 2, 3/,
  });
  await assert.rejects(acme.rollback('x', 9), { code: 'not_found', message: /no version 9; it has 1, 2, 3/ });
  assert.deepEqual(await acme.get('x'), one);
  await service.dispose();
  const again = (await open(t, { dataDir })).acme;
  const lease = await again.acquire('x');
  assert.equal(lease.adapter.hash, one.hash);
  lease.release();
  assert.deepEqual(await again.rollback('x', 3), three);
  await again.rollback('x', 1);
  assert.equal((await again.register('x', FOUR)).version, 4, 'no version is given out twice');
});

test('versions are not changed one by one', async (t) => {
  const { acme } = await open(t);
  await acme.register('x', ONE);
  for (const call of [acme.remove('x@1'), acme.rollback('x@1', null), acme.share('x@1', 'bolt')])
    await assert.rejects(call, { code: 'invalid_value', param: 'name' });
});

test('an alias keeps the version that it names', async (t) => {
  const { acme } = await open(t, { keptVersions: 1 });
  const one = await acme.register('x', ONE);
  await acme.aliases.set('prod', [{ model: 'x@1', weight: 100 }]);
  for (const files of [TWO, THREE]) await acme.register('x', files);
  assert.deepEqual(
    (await acme.versions('x')).map(({ info }) => info.version),
    [3, 1],
  );
  assert.equal((await acme.get('x@1'))!.hash, one.hash);
  await acme.aliases.remove('prod');
  await acme.register('x', FOUR);
  assert.equal(await acme.get('x@1'), null);
});

test("another tenant's alias keeps nothing", async (t) => {
  const { acme, bolt } = await open(t, { keptVersions: 1 });
  await acme.register('x', ONE);
  await acme.share('x', 'bolt');
  await bolt.aliases.set('prod', [{ model: 'acme/x@1', weight: 100 }]);
  await acme.register('x', TWO);
  assert.equal((await acme.versions('x')).length, 1);
});

test('aliases belong to a tenant, are replaced, and are there after a restart', async (t) => {
  const { service, acme, bolt, dataDir } = await open(t, { clock: () => 5_000 });
  await acme.register('x', ONE);
  const targets = [
    { model: 'x@1', weight: 90 },
    { model: 'llama-tied', weight: 10 },
  ];
  const alias = { alias: 'prod', targets, createdAt: 5, updatedAt: 5 };
  assert.deepEqual(await acme.aliases.set('prod', targets), alias);
  assert.equal(await bolt.aliases.get('prod'), null);
  assert.deepEqual(await bolt.aliases.list(), []);
  assert.equal(await bolt.aliases.remove('prod'), false);
  await service.dispose();
  const again = await open(t, { dataDir, clock: () => 9_000 });
  assert.deepEqual(await again.acme.aliases.list(), [alias]);
  const changed = await again.acme.aliases.set('prod', [{ model: 'x', weight: 100 }]);
  assert.deepEqual([changed.createdAt, changed.updatedAt], [5, 9]);
  assert.equal(await again.acme.aliases.remove('prod'), true);
  assert.equal(await again.acme.aliases.get('prod'), null);
});

test('what an alias may not be is refused, with the field', async (t) => {
  const { acme } = await open(t);
  await acme.register('x', ONE);
  const all = (model: string) => [{ model, weight: 100 }];
  const set = (alias: string, targets: { model: string; weight: number }[]) =>
    acme.aliases.set(alias, targets);
  for (const [call, param] of [
    [() => set('llama-tied', all('x')), 'alias'],
    [() => set('a/b', all('x')), 'alias'],
    [() => set('a@1', all('x')), 'alias'],
    [() => set('p', []), 'targets'],
    [() => set('p', [{ model: 'x', weight: 99 }]), 'targets'],
    [() => set('p', [{ model: 'x', weight: 101 }]), 'targets.0.weight'],
    [() => set('p', [{ model: 'x', weight: -1 }]), 'targets.0.weight'],
    [() => set('p', [{ model: 'x', weight: 99.5 }]), 'targets.0.weight'],
    [
      () =>
        set('p', [
          { model: 'x', weight: 50 },
          { model: 'x', weight: 50 },
        ]),
      'targets.1.model',
    ],
  ] as const)
    await assert.rejects(call(), { code: 'invalid_value', param });
  await set('q', all('x'));
  await assert.rejects(set('p', all('q')), { code: 'model_not_found', param: 'targets.0.model' });
  assert.equal(await acme.aliases.get('p'), null);
});

test('quotas are asked before anything is stored, names only once', async (t) => {
  const asked: unknown[] = [];
  let isFull = false;
  const checkQuota = async (...question: unknown[]) => {
    asked.push(question);
    if (isFull) throw new GatewayError('not_permitted', 'full');
  };
  const { service, acme, blobs } = await open(t, { checkQuota });
  const { sizeBytes } = await acme.register('x', ONE);
  const second = await acme.register('x', TWO);
  assert.deepEqual(asked, [
    ['acme', 'adapters', 1],
    ['acme', 'bytes', sizeBytes],
    ['acme', 'bytes', second.sizeBytes],
  ]);
  assert.deepEqual(await service.holdings('acme'), {
    numAdapters: 1,
    sizeBytes: sizeBytes + second.sizeBytes,
  });
  assert.deepEqual(await service.holdings('bolt'), { numAdapters: 0, sizeBytes: 0 });
  isFull = true;
  await assert.rejects(acme.register('x', THREE), { message: 'full' });
  assert.equal(blobs().length, 2);
  assert.equal((await acme.get('x'))!.version, 2);
});

test('an upload tells nothing of equal files of another tenant', async (t) => {
  const { acme, bolt, blobs } = await open(t, { clock: () => 1_000 });
  const before = await bolt.register('x', ONE);
  await bolt.remove('x');
  await acme.register('theirs', ONE);
  assert.deepEqual(await bolt.register('x', ONE), before);
  assert.equal(blobs().length, 1, 'equal files are stored once');
  await acme.remove('theirs');
  (await bolt.acquire('x')).release();
});
