// The service over a real folder and a real SQLite file: registering, versions, loading, pins, combinations, and what a crash leaves.
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { readAdapterFolder } from '../../src/adapters/adapter-folder.js';
import { type AdapterServiceOptions, createAdapterService } from '../../src/adapters/service.js';
import type { LoraAdapter, PrefixAdapter, PromptEmbeddings } from '../../src/adapters/types.js';
import {
  adapterFiles,
  fixtureBase,
  fixtureConfig,
  fixtures,
  gated,
  peftFiles,
  readTensors,
} from '../helpers/adapter-fixtures.js';

const base = fixtureBase('llama-tied');
const lora = (name: string) => adapterFiles('llama-tied', name);

function prefixOf({ hash, numVirtualTokens }: PromptEmbeddings): PrefixAdapter {
  return { kind: 'prefix', hash, numVirtualTokens, sizeBytes: 64, layers: [] };
}

function temporaryFolder(t: TestContext): string {
  const dataDir = mkdtempSync(join(tmpdir(), 'adapters-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  return dataDir;
}

async function open(t: TestContext, options: Partial<AdapterServiceOptions> = {}) {
  const dataDir = options.dataDir ?? temporaryFolder(t);
  const runPrompt = (embeddings: PromptEmbeddings) => Promise.resolve(prefixOf(embeddings));
  const own = { base, cacheBytes: 1 << 20, keptVersions: 1, runPrompt };
  const adapters = await createAdapterService({ ...own, ...options, dataDir });
  t.after(() => adapters.dispose());
  // Most tests are about one tenant.
  const service = { ...adapters.of('default'), ...adapters };
  return { service, dataDir, blobs: () => readdirSync(join(dataDir, 'adapters')).toSorted() };
}

test('what is registered is listed, found, and there after a restart', async (t) => {
  const { service, dataDir } = await open(t, { clock: () => 1_700_000_000_999 });
  assert.deepEqual(await service.list(), []);
  const b = await service.register('team:b', lora('prefix-8'));
  const a = await service.register('a.1', lora('lora-qv-r8'));
  assert.deepEqual(
    { ...a, hash: '' },
    {
      name: 'a.1',
      owner: 'default',
      version: 1,
      hash: '',
      peftType: 'LORA',
      servedAs: 'lora',
      rank: 8,
      targetModules: ['q_proj', 'v_proj'],
      numVirtualTokens: null,
      sizeBytes: [...lora('lora-qv-r8')].reduce(
        (sum, [name, bytes]) => sum + (name === 'expected.json' ? 0 : bytes.length),
        0,
      ),
      base: 'llama-tied',
      createdAt: 1_700_000_000,
    },
  );
  assert.deepEqual(await service.list(), [a, b]);
  assert.deepEqual(await service.get('team:b'), b);
  assert.equal(await service.get('c'), null);
  await service.dispose();
  const reopened = await open(t, { dataDir });
  assert.deepEqual(await reopened.service.list(), [a, b]);
  const lease = await reopened.service.acquire('a.1');
  assert.equal(lease.adapter.hash, a.hash);
  assert.deepEqual(lease.info, a);
  lease.release();
});

test('names are checked', async (t) => {
  const { service } = await open(t);
  for (const name of ['', '-a', 'a,b', 'a/b', 'a b', '../a', 'é', 'x'.repeat(129), 'llama-tied'])
    await assert.rejects(service.register(name, lora('lora-qv-r8')), {
      code: 'invalid_value',
      param: 'name',
    });
  for (const name of ['ft:llama:org::id', 'A', '0', 'x'.repeat(128)])
    assert.equal((await service.register(name, lora('lora-qv-r8'))).name, name);
});

test('what does not load is not stored', async (t) => {
  const { service, blobs } = await open(t);
  await assert.rejects(service.register('a', lora('lntuning')), { code: 'unsupported_adapter' });
  await assert.rejects(service.register('a', adapterFiles('gemma3-text', 'lora-qv-r8')), {
    code: 'adapter_base_mismatch',
  });
  assert.deepEqual(blobs(), []);
  assert.deepEqual(await service.list(), []);
});

test('a new version supersedes the old one, whose leases go on', async (t) => {
  const { service, blobs } = await open(t);
  const one = await service.register('a', lora('lora-qv-r8'));
  const old = await service.acquire('a');
  const two = await service.register('a', lora('lora-rslora'));
  assert.deepEqual([one.version, two.version], [1, 2]);
  assert.notEqual(one.hash, two.hash);
  const fresh = await service.acquire('a');
  assert.equal(old.adapter.hash, one.hash);
  assert.equal(old.info.version, 1);
  assert.equal(fresh.adapter.hash, two.hash);
  assert.deepEqual(blobs(), [one.hash, two.hash].toSorted());
  old.release();
  fresh.release();
  await service.dispose();
  assert.deepEqual(blobs(), [two.hash], 'the files of the old version outlive its last pin');
});

test('registering the same content again is a new version of the same files', async (t) => {
  const { service, blobs } = await open(t);
  const one = await service.register('a', lora('lora-qv-r8'));
  const two = await service.register('a', lora('lora-qv-r8'));
  await service.register('b', lora('lora-qv-r8'));
  assert.deepEqual([two.hash, two.version], [one.hash, 2]);
  await service.remove('a');
  assert.deepEqual(blobs(), [one.hash], 'b still needs the files');
  await service.remove('b');
  assert.deepEqual(blobs(), []);
  assert.equal((await service.register('a', lora('lora-qv-r8'))).version, 1);
});

test('a removed name is gone at once, its leases and files when they end', async (t) => {
  const { service, blobs } = await open(t);
  const { hash } = await service.register('a', lora('lora-qv-r8'));
  const lease = await service.acquire('a');
  assert.equal(await service.remove('a'), true);
  assert.equal(await service.remove('a'), false);
  assert.equal(await service.get('a'), null);
  await assert.rejects(service.acquire('a'), {
    code: 'model_not_found',
    param: 'model',
    message: /"a" does not exist/,
  });
  assert.deepEqual(blobs(), [hash]);
  assert.equal((lease.adapter as LoraAdapter).layers.length, 2);
  lease.release();
  assert.deepEqual(service.resident(), []);
  await service.dispose();
  assert.deepEqual(blobs(), []);
});

test('a load is shared, blocks no other, and its waiters get the version they asked for', async (t) => {
  const started = gated<void>();
  const proceed = gated<void>();
  let numRuns = 0;
  const runPrompt = async (embeddings: PromptEmbeddings) => {
    numRuns++;
    started.resolve();
    await proceed.promise;
    return prefixOf(embeddings);
  };
  const { service, blobs } = await open(t, { runPrompt });
  const one = await service.register('p', lora('prompt-8'));
  const waiters = [service.acquire('p'), service.acquire('p')];
  await started.promise;
  await service.register('other', lora('lora-qv-r8'));
  (await service.acquire('other')).release();
  const two = await service.register('p', lora('prefix-8'));
  const fresh = await service.acquire('p');
  assert.equal(fresh.adapter.hash, two.hash);
  assert.ok(blobs().includes(one.hash), 'the files of a load under way are gone');
  proceed.resolve();
  const leases = await Promise.all(waiters);
  assert.equal(numRuns, 1);
  assert.deepEqual(
    leases.map(({ adapter, info }) => [adapter.hash, info.version]),
    [
      [one.hash, 1],
      [one.hash, 1],
    ],
  );
  assert.deepEqual(
    service.resident().filter(({ hash }) => hash === one.hash),
    [{ name: 'p', hash: one.hash, sizeBytes: 64, pins: 2 }],
  );
  for (const lease of [...leases, fresh]) lease.release();
  await service.dispose();
  assert.ok(!blobs().includes(one.hash));
});

test('a failed load is tried again', async (t) => {
  let numRuns = 0;
  const runPrompt = (embeddings: PromptEmbeddings) =>
    ++numRuns === 1 ? Promise.reject(new Error('engine is busy')) : Promise.resolve(prefixOf(embeddings));
  const { service } = await open(t, { runPrompt });
  await service.register('p', lora('ptuning-mlp-8'));
  await assert.rejects(service.acquire('p'), { message: 'engine is busy' });
  const lease = await service.acquire('p');
  assert.equal(lease.adapter.kind, 'prefix');
  lease.release();
});

test('loaded adapters stay within their bytes, pinned ones always', async (t) => {
  const bytesOf = (name: string) => ({ 'lora-qv-r8': 14336, 'lora-all-r8': 65536 })[name]!;
  const { service } = await open(t, { cacheBytes: 70_000 });
  await service.register('small', lora('lora-qv-r8'));
  await service.register('large', lora('lora-all-r8'));
  const small = await service.acquire('small');
  assert.equal(small.adapter.sizeBytes, bytesOf('lora-qv-r8'));
  const large = await service.acquire('large');
  assert.equal(large.adapter.sizeBytes, bytesOf('lora-all-r8'));
  assert.equal(service.usage().overBytes, 14336 + 65536 - 70_000);
  small.release();
  assert.deepEqual(
    service.resident().map(({ name, pins }) => [name, pins]),
    [['large', 1]],
  );
  large.release();
  (await service.acquire('small')).release();
  assert.deepEqual(
    service.resident().map(({ name, pins }) => [name, pins]),
    [['small', 0]],
  );
});

test('several LoRAs combine into one, in any order the same', async (t) => {
  const { service } = await open(t);
  await service.register('a', lora('lora-qv-r8'));
  await service.register('b', lora('lora-mixed'));
  const parts = [
    { name: 'a', scale: 0.5 },
    { name: 'b', scale: -2 },
  ];
  const [lease, swapped] = await Promise.all([
    service.acquireCombination(parts),
    service.acquireCombination(parts.toReversed()),
  ]);
  assert.equal(lease.adapter, swapped.adapter);
  const [a, b] = await Promise.all([service.acquire('a'), service.acquire('b')]);
  assert.equal(lease.info.rank, 24);
  for (const [index, layer] of (lease.adapter as LoraAdapter).layers.entries())
    for (const [projection, joined] of Object.entries(layer.lora)) {
      const deltas = [
        [(a.adapter as LoraAdapter).layers[index]!.lora[projection as 'q_proj'], 0.5],
        [(b.adapter as LoraAdapter).layers[index]!.lora[projection as 'q_proj'], -2],
      ] as const;
      const present = deltas.filter(([delta]) => delta !== undefined);
      assert.equal(
        joined.rank,
        present.reduce((sum, [delta]) => sum + delta!.rank, 0),
      );
      const [input, out] = [joined.a.length / joined.rank, joined.b.length / joined.rank];
      for (let at = 0; at < input * out; at += 37) {
        const entry = ({ rank, a: left, b: right }: typeof joined) => {
          let sum = 0;
          for (let k = 0; k < rank; k++)
            sum += left[Math.floor(at / out) * rank + k]! * right[k * out + (at % out)]!;
          return sum;
        };
        const expected = present.reduce((sum, [delta, scale]) => sum + scale * entry(delta!), 0);
        assert.ok(Math.abs(entry(joined) - expected) < 1e-6, `${index} ${projection} ${at}`);
      }
    }
  const other = await service.acquireCombination([parts[0]!, { name: 'b', scale: 2 }]);
  assert.notEqual(other.adapter.hash, lease.adapter.hash);
  const names = service.resident().map(({ name, pins }) => [name, pins]);
  assert.ok(names.some(([name, pins]) => (name === 'a*0.5+b*-2' || name === 'b*-2+a*0.5') && pins === 2));
  for (const held of [lease, swapped, a, b, other]) held.release();
  const alone = await service.acquireCombination([{ name: 'a', scale: 1 }]);
  assert.equal(alone.info.name, 'a');
  alone.release();
  assert.equal(service.usage().pinnedBytes, 0);
});

test('what cannot be combined is refused by name', async (t) => {
  const { service } = await open(t);
  await service.register('a', lora('lora-qv-r8'));
  await service.register('dora', lora('dora-all-r8'));
  await service.register('prefix', lora('prefix-8'));
  const withA = (name: string, scale = 1) =>
    service.acquireCombination([
      { name: 'a', scale: 1 },
      { name, scale },
    ]);
  await assert.rejects(withA('dora'), {
    code: 'unsupported_adapter',
    param: 'adapters',
    message: /^dora has/,
  });
  await assert.rejects(withA('prefix'), { code: 'unsupported_adapter', message: /^prefix is a prefix/ });
  await assert.rejects(withA('none'), { code: 'model_not_found', param: 'model', message: /"none"/ });
  await assert.rejects(withA('a'), { code: 'invalid_value', param: 'adapters', message: /lists "a" twice/ });
  await assert.rejects(withA('dora', Number.NaN), {
    code: 'invalid_value',
    message: /"dora" to be a finite number/,
  });
  await assert.rejects(service.acquireCombination([]), {
    code: 'invalid_value',
    message: /1 to 16 adapters, got 0/,
  });
  await assert.rejects(service.acquireCombination([{ name: 'a', scale: 1e300 }]), {
    code: 'invalid_value',
    message: /beyond f32/,
  });
  assert.equal(service.usage().pinnedBytes, 0, 'a refusal keeps a pin');
});

test('adapters of another base are kept apart and named in the refusal', async (t) => {
  const { service, dataDir } = await open(t);
  await service.register('a', lora('lora-qv-r8'));
  await service.dispose();
  const other = { ...fixtureBase('llama-untied'), baseHash: 'c'.repeat(64) };
  const { service: second, blobs } = await open(t, { dataDir, base: other });
  assert.deepEqual(await second.list(), []);
  await assert.rejects(second.acquire('a'), {
    code: 'model_not_found',
    message: /registered for the base llama-tied/,
  });
  assert.equal(await second.remove('a'), false);
  assert.equal((await second.register('a', adapterFiles('mistral', 'lora-qv-r8'))).version, 1);
  assert.equal(blobs().length, 2);
});

test('garbage of a crash is swept at the start, nothing else', async (t) => {
  const { service, dataDir } = await open(t);
  const { hash } = await service.register('a', lora('lora-qv-r8'));
  await service.dispose();
  const folder = join(dataDir, 'adapters');
  const old = new Date(Date.now() - 3_600_000);
  const make = (name: string, time: Date | null) => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'adapter_config.json'), '{}');
    if (time !== null) utimesSync(join(folder, name), time, time);
  };
  make('d'.repeat(64), old);
  make('e'.repeat(64), null);
  make(`.tmp-${process.pid}-old`, old);
  make(`.tmp-${process.pid}-young`, null);
  make('.tmp-999999999-dead', null);
  make('notes', old);
  utimesSync(join(folder, hash), old, old);
  const { blobs } = await open(t, { dataDir });
  assert.deepEqual(blobs(), [`.tmp-${process.pid}-young`, hash, 'e'.repeat(64), 'notes'].toSorted());
});

test('damaged or missing files are an error of the server, and registering again repairs them', async (t) => {
  const { service, dataDir } = await open(t);
  const { hash } = await service.register('a', lora('lora-qv-r8'));
  const config = join(dataDir, 'adapters', hash, 'adapter_config.json');
  writeFileSync(config, JSON.stringify({ ...fixtureConfig('llama-tied', 'lora-qv-r8'), lora_alpha: 17 }));
  await assert.rejects(service.acquire('a'), { code: 'internal_error', message: /files of a have changed/ });
  truncateSync(config);
  await service.register('a', lora('lora-qv-r8'));
  (await service.acquire('a')).release();
  await service.register('b', lora('prefix-8'));
  const { hash: other } = (await service.get('b'))!;
  rmSync(join(dataDir, 'adapters', other), { recursive: true });
  await assert.rejects(service.acquire('b'), { code: 'internal_error', message: /files of b are missing/ });
});

test('changes at the same time are counted one by one', async (t) => {
  const { service, blobs } = await open(t);
  const names = ['lora-qv-r8', 'lora-rslora', 'lora-all-r8', 'lora-mixed'];
  const infos = await Promise.all(names.map((name) => service.register('a', lora(name))));
  assert.deepEqual(
    infos.map(({ version }) => version).toSorted((a, b) => a - b),
    [1, 2, 3, 4],
  );
  const last = infos.find(({ version }) => version === 4)!;
  assert.deepEqual(await service.get('a'), last);
  assert.deepEqual(blobs(), [last.hash]);
});

test('after its end the service says so', async (t) => {
  const { service } = await open(t);
  await service.register('a', lora('lora-qv-r8'));
  const lease = await service.acquire('a');
  await service.dispose();
  await service.dispose();
  lease.release();
  for (const call of [service.list(), service.get('a'), service.acquire('a'), service.remove('a')])
    await assert.rejects(call, { code: 'unavailable' });
});

test('a folder on disk is read for its adapter files', async (t) => {
  const files = await readAdapterFolder(join(fixtures, 'adapters', 'llama-tied', 'lora-qv-r8'));
  assert.deepEqual([...files.keys()], ['adapter_config.json', 'adapter_model.safetensors']);
  const { service } = await open(t);
  assert.equal((await service.register('a', files)).version, 1);
  const missing = join(fixtures, 'adapters', 'no-such-folder');
  await assert.rejects(readAdapterFolder(missing), { code: 'invalid_value', param: missing });
});

test('reading lets the event loop run between tensors', async () => {
  const { readPeft } = await import('../../src/adapters/peft.js');
  const { createPacer } = await import('../../src/adapters/pacer.js');
  let numTurns = 0;
  let isDone = false;
  const turn = (): void => {
    if (isDone) return;
    numTurns++;
    setImmediate(turn);
  };
  setImmediate(turn);
  const weights = readTensors(lora('lora-all-r8').get('adapter_model.safetensors')!);
  await readPeft(peftFiles(fixtureConfig('llama-tied', 'lora-all-r8'), weights), base, createPacer(512));
  isDone = true;
  assert.ok(numTurns >= 14, `${numTurns} turns for 14 modules`);
});
