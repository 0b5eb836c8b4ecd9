// Keys, tenants, quotas and usage in the whole product over a tiny model.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCli } from '../../src/cli/program.js';
import { adapterFiles } from '../helpers/adapter-fixtures.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';
import { BASE, refusalOf, runServer, temporaryFolder } from '../helpers/running-server.js';

async function cli(dataDir: string, words: string): Promise<string> {
  const terminal = fakeTerminal({ GRAFT_DATA_DIR: dataDir });
  const code = await runCli(words.split(' '), terminal, () =>
    Promise.reject(new Error('main.ts was loaded')),
  );
  assert.equal(code, 0, terminal.err());
  return terminal.out().trim();
}

function ask(url: string, path: string, key: string | null, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key !== null) headers.set('authorization', `Bearer ${key}`);
  return fetch(`${url}${path}`, { ...init, headers });
}

function upload(url: string, key: string, name: string, adapter: string): Promise<Response> {
  const body = new FormData();
  body.append('name', name);
  for (const [file, bytes] of adapterFiles(BASE, adapter))
    if (file !== 'expected.json') body.append('file', new Blob([new Uint8Array(bytes)]), file);
  return ask(url, '/v1/adapters', key, { method: 'POST', body });
}

test('without a key no other machine is listened to: refused before a model is looked for, with how to make a key', async (t) => {
  const dataDir = temporaryFolder(t);
  const noModel = join(dataDir, 'no-model');
  await assert.rejects(
    runServer(t, { host: '0.0.0.0', dataDir, model: noModel }),
    /127\.0\.0\.1.*no API key.*`0\.0\.0\.0`.*keys create/,
  );
  for (const host of ['127.0.0.2', '::1', 'localhost'])
    await assert.rejects(runServer(t, { host, dataDir, model: noModel }), /no-model/);
  const { url, log } = await runServer(t, { dataDir });
  assert(log.some((line) => line.startsWith('warn no API key exists: listening on 127.0.0.1 only')));
  assert.equal((await ask(url, '/v1/models', null)).status, 200);
});

test('a key made beside the running server closes it, and lets it listen to others at the next start', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await runServer(t, { dataDir });
  assert.equal((await ask(first.url, '/v1/models', null)).status, 200);
  const key = await cli(dataDir, 'keys create --scopes chat');
  assert.equal((await ask(first.url, '/v1/models', null)).status, 401);
  assert.equal((await ask(first.url, '/v1/models', key)).status, 200);
  await first.close();
  const second = await runServer(t, { dataDir, host: '0.0.0.0' });
  const url = second.url.replace('0.0.0.0', '127.0.0.1');
  assert.equal((await ask(url, '/v1/models', null)).status, 401);
  assert.equal((await ask(url, '/v1/models', key)).status, 200);
  assert(!second.log.join('\n').includes(key));
});

test(
  'quotas of adapters, bytes and jobs, and usage that a restart keeps',
  { timeout: 120_000 },
  async (t) => {
    const dataDir = temporaryFolder(t);
    await cli(dataDir, 'tenants set acme --max-adapters 1 --max-mb 1 --max-jobs 0');
    const admin = await cli(dataDir, 'keys create --scopes admin');
    const acme = await cli(dataDir, 'keys create --tenant acme --scopes chat,adapters,train');
    const server = await runServer(t, { dataDir });
    const { url } = server;
    const refusal = async (response: Response) => {
      assert.equal(response.status, 403);
      return (await refusalOf(response)).code;
    };
    const added = await upload(url, acme, 'legal', 'lora-all-r8');
    assert.equal(added.status, 201, await added.clone().text());
    assert.equal((await upload(url, acme, 'legal', 'lora-all-r8')).status, 201);
    assert.equal(await refusal(await upload(url, acme, 'second', 'lora-all-r8')), 'quota_exceeded');
    const form = (bytes: number) => {
      const body = new FormData();
      body.append('purpose', 'fine-tune');
      body.append(
        'file',
        new Blob([`{"prompt": "a", "completion": "${'x'.repeat(bytes)}"}\n`]),
        'train.jsonl',
      );
      return { method: 'POST', body };
    };
    assert.equal(await refusal(await ask(url, '/v1/files', acme, form(2 ** 20))), 'quota_exceeded');
    const small = await ask(url, '/v1/files', acme, form(10));
    assert.equal(small.status, 200);
    const { id }: { id: string } = JSON.parse(await small.text());
    const job = { model: BASE, training_file: id };
    const refused = await ask(url, '/v1/fine_tuning/jobs', acme, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(job),
    });
    assert.equal(await refusal(refused), 'quota_exceeded');
    const body = JSON.stringify({ model: 'legal', prompt: [1, 68, 168], max_tokens: 4, ignore_eos: true });
    const answer = await ask(url, '/v1/completions', acme, { method: 'POST', body });
    assert.equal(answer.status, 200, await answer.text());
    await server.close();
    const again = await runServer(t, { dataDir });
    const usage = await ask(again.url, '/v1/admin/usage?group_by=tenant,adapter', admin);
    assert.deepEqual(JSON.parse(await usage.text()).data, [
      {
        object: 'usage',
        tenant: 'acme',
        adapter: 'legal',
        requests: 1,
        prompt_tokens: 3,
        cached_tokens: 0,
        completion_tokens: 4,
      },
    ]);
    const held = await ask(again.url, '/v1/admin/tenants/acme', admin);
    assert.equal(JSON.parse(await held.text()).held.adapters, 1);
    assert.equal((await ask(again.url, '/v1/admin/tenants/acme', admin, { method: 'DELETE' })).status, 400);
  },
);
