// What is on disk: a second start on the same data folder finds everything, converts nothing, and a kill -9 loses nothing that was
// acknowledged. And the adapters that come from folders: --adapter and the runtime endpoints.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { adapterFiles, fixtureConfig, peftFiles, readTensors } from '../helpers/adapter-fixtures.js';
import {
  BASE,
  greedyTokens,
  referenceCases,
  refusalOf,
  runServer,
  temporaryFolder,
  upload,
  uploadAdapter,
  uploadAll,
  type RunningServer,
} from '../helpers/running-server.js';
import { spawnServer } from '../helpers/server-process.js';
import { FIXTURES } from '../helpers/tiny-model.js';

const ADAPTERS = ['lora-all-r8', 'prefix-8', 'prompt-8', 'dora-all-r8', 'ia3'];
const FOLDER = join(FIXTURES, 'adapters', BASE);

interface AdapterObject {
  readonly name: string;
  readonly version: number;
  readonly hash: string;
}

async function adaptersOf(url: string): Promise<AdapterObject[]> {
  const list: { data: AdapterObject[] } = JSON.parse(await (await fetch(`${url}/v1/adapters`)).text());
  return list.data;
}

/** The name answers as the fixture's adapter does. */
async function checkServes({ client }: Pick<RunningServer, 'client'>, name: string, adapter: string) {
  for (const { prompt, greedy } of referenceCases(adapter))
    assert.deepEqual(await greedyTokens(client, name, prompt), greedy, name);
}

test('a restart finds every adapter, and converts nothing again', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await runServer(t, { dataDir });
  assert.deepEqual([...first.progress], [`converting ${BASE}`]);
  await uploadAll(first.url, ADAPTERS);
  await uploadAdapter(first.url, 'team.name', 'lora-qv-r8');
  await uploadAdapter(first.url, 'team.name', 'lora-mixed');
  await uploadAdapter(first.url, 'gone', 'lora-qv-r8');
  await fetch(`${first.url}/v1/adapters/gone`, { method: 'DELETE' });
  const before = await adaptersOf(first.url);
  await first.close();
  const converted = filesUnder(join(dataDir, 'converted'));

  const second = await runServer(t, { dataDir });
  assert.deepEqual([...second.progress], []);
  assert.deepEqual(filesUnder(join(dataDir, 'converted')), converted);
  assert.deepEqual(await adaptersOf(second.url), before);
  assert.equal(before.find(({ name }) => name === 'team.name')!.version, 2);
  for (const adapter of [BASE, ...ADAPTERS]) await checkServes(second, adapter, adapter);
  await checkServes(second, 'team.name', 'lora-mixed');
  await second.close();
});

test('other weights of the same base have a conversion of their own', async (t) => {
  const dataDir = temporaryFolder(t);
  await (await runServer(t, { dataDir })).close();
  const quantized = await runServer(t, { dataDir, weights: 'q4' });
  assert.deepEqual([...quantized.progress], [`converting ${BASE}`]);
  assert.equal(readdirSync(join(dataDir, 'converted')).length, 2);
  await quantized.close();
});

test('everything acknowledged survives kill -9 of the server', async (t) => {
  const dataDir = temporaryFolder(t);
  const config = fixtureConfig(BASE, 'lora-qv-r8');
  const weights = readTensors(adapterFiles(BASE, 'lora-qv-r8').get('adapter_model.safetensors')!);
  const acknowledged = new Map<string, AdapterObject>();
  let numUploads = 0;
  for (const numToLive of [3, 8]) {
    const server = await spawnServer(t, dataDir);
    let numAcknowledged = 0;
    const kill: { ended: ReturnType<typeof server.end> | null } = { ended: null };
    const uploader = async (name: string): Promise<void> => {
      while (kill.ended === null) {
        const files = peftFiles({ ...config, revision: `${numUploads++}` }, weights);
        const response = await upload(server.url, name, files);
        assert.equal(response.status, 201);
        acknowledged.set(name, JSON.parse(await response.text()));
        if (++numAcknowledged === numToLive) kill.ended = server.end('SIGKILL');
      }
    };
    const uploads = await Promise.allSettled(['x', 'y', 'z'].map(uploader));
    for (const result of uploads)
      if (result.status === 'rejected') assert(result.reason instanceof TypeError, String(result.reason));
    assert.deepEqual(await kill.ended, [null, 'SIGKILL']);

    const after = await runServer(t, { dataDir });
    assert.deepEqual([...after.progress], []);
    const found = new Map((await adaptersOf(after.url)).map((adapter) => [adapter.name, adapter]));
    for (const [name, { version, hash }] of acknowledged) {
      const now = found.get(name);
      assert(now !== undefined, `${name} is gone`);
      // The kill may have come between an upload's row and its answer: one version more than was heard of.
      assert(now.version === version || now.version === version + 1, `${name}: ${now.version}, ${version}`);
      if (now.version === version) assert.equal(now.hash, hash, name);
      acknowledged.set(name, now);
    }
    for (const name of found.keys()) await checkServes(after, name, 'lora-qv-r8');
    await after.close();
  }
});

test('--adapter registers a folder at each start, and a bad one is refused with its flag', async (t) => {
  const dataDir = temporaryFolder(t);
  const flags = { dataDir, adapter: [`mine=${join(FOLDER, 'lora-mixed')}`] };
  const first = await runServer(t, flags);
  await checkServes(first, 'mine', 'lora-mixed');
  await first.close();
  const second = await runServer(t, flags);
  assert.equal((await adaptersOf(second.url)).length, 1);
  await checkServes(second, 'mine', 'lora-mixed');
  await second.close();
  await assert.rejects(runServer(t, { dataDir, adapter: [`bad=${join(FOLDER, 'lntuning')}`] }), {
    code: 'unsupported_adapter',
    message: /^--adapter bad=/,
  });
});

test('the runtime endpoints load from their folder alone, and only when they are on', async (t) => {
  const dataDir = temporaryFolder(t);
  const folder = join(dataDir, 'loras');
  mkdirSync(folder);
  cpSync(join(FOLDER, 'lora-all-r8'), join(folder, 'first'), { recursive: true });
  const server = await runServer(t, { dataDir, allowRuntimeLora: true, runtimeLoraDir: folder });
  const post = (path: string, body: object, url = server.url) =>
    fetch(`${url}/v1/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const loaded = await post('load_lora_adapter', { lora_name: 'a', lora_path: 'first' });
  assert.equal(loaded.status, 200, await loaded.text());
  await checkServes(server, 'a', 'lora-all-r8');
  const again = await post('load_lora_adapter', { lora_name: 'a', lora_path: join(folder, 'first') });
  assert.equal(again.status, 400);
  const outside = await post('load_lora_adapter', { lora_name: 'b', lora_path: join(FOLDER, 'lora-qv-r8') });
  assert.deepEqual([outside.status, (await refusalOf(outside)).code], [403, 'not_permitted']);
  const unloaded = await post('unload_lora_adapter', { lora_name: 'a' });
  assert.equal(unloaded.status, 200);
  await assert.rejects(greedyTokens(server.client, 'a', [1, 2]), { status: 404 });
  assert.equal((await post('unload_lora_adapter', { lora_name: 'a' })).status, 404);
  await server.close();
  const closed = await runServer(t, { dataDir });
  const off = await post('load_lora_adapter', { lora_name: 'a', lora_path: 'first' }, closed.url);
  assert.equal(off.status, 404);
  await closed.close();
});

/** Path and time of change of every file. */
function filesUnder(folder: string): (readonly [string, number])[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .toSorted()
    .map((file) => [file, statSync(join(folder, file)).mtimeMs] as const);
}
