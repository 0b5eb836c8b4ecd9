// `keys` and `tenants` on a data folder that nobody serves, and the key that client commands send.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { runCli } from '../../src/cli/program.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';
import { testTenants } from '../helpers/tenants.js';

function dataFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cli-tenants-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'data');
}

async function run(dataDir: string, words: string, env: Record<string, string> = {}) {
  const terminal = fakeTerminal({ GRAFT_DATA_DIR: dataDir, ...env });
  const noMain = () => Promise.reject(new Error('main.ts was loaded'));
  const code = await runCli(words.split(' '), terminal, noMain);
  return { code, out: terminal.out(), err: terminal.err() };
}

const idOf = (err: string) => /key_[0-9a-f]{24}(?= of)/.exec(err)![0];

test('the first key is made before there is a data folder: the key alone on stdout, the rest on stderr', async (t) => {
  const folder = dataFolder(t);
  const made = await run(folder, 'keys create --scopes admin --name operator');
  assert.equal(made.code, 0);
  assert.match(made.out, /^sk-[\w-]{43}\n$/);
  assert.match(made.err, /^key_[0-9a-f]{24} of default: admin; does not expire\. It is shown this once:\n$/);
  const { tenants } = await testTenants(t, { nowMs: Date.now() }, join(folder, 'registry.db'));
  const caller = await tenants.access.identify(made.out.trim());
  assert.deepEqual([caller.tenant, [...caller.scopes]], ['default', ['admin']]);
  const listed = await run(folder, 'keys list');
  assert.match(
    listed.out,
    /^ID .*\nkey_\w+ +default +operator +sk-.{6} +admin +active +[\d: -]+never +never\n$/,
  );
  assert(!listed.out.includes(made.out.trim()));
});

test('a running server sees at its next request what the command line did: a key, its rotation, its end', async (t) => {
  const folder = dataFolder(t);
  await run(folder, 'tenants set acme');
  const { tenants } = await testTenants(t, { nowMs: Date.now() }, join(folder, 'registry.db'));
  const made = await run(folder, 'keys create --tenant acme --scopes chat,train --expires-days 2');
  const secret = made.out.trim();
  assert.deepEqual([...(await tenants.access.identify(secret)).scopes], ['chat', 'train']);
  const rotated = await run(folder, `keys rotate ${idOf(made.err)} --overlap-minutes 0`);
  assert.match(rotated.err, /is refused from now on/);
  await assert.rejects(tenants.access.identify(secret), /expired/);
  const next = rotated.out.trim();
  assert.equal((await tenants.access.identify(next)).tenant, 'acme');
  const revoked = await run(folder, `keys revoke ${idOf(rotated.err)}`);
  assert.match(revoked.out, /^key_\w+: revoked\n$/);
  await assert.rejects(tenants.access.identify(next), /revoked/);
  const { out } = await run(folder, 'keys list --tenant acme');
  assert.match(out, /expired, rotated to key_/);
  assert.equal(
    (await run(folder, 'keys list --tenant default')).out,
    'no keys; make one with `graft keys create`\n',
  );
});

test('tenants set changes what is said, leaves the rest, and lifts with -1', async (t) => {
  const folder = dataFolder(t);
  const set = async (words: string) =>
    (await run(folder, `tenants set acme ${words}`.trim())).out.split('\n')[1];
  const cells = async (words: string) => (await set(words))!.split(/ +/);
  assert.deepEqual(await cells('--requests-per-minute 60 --max-mb 5 --priority -2'), [
    'acme',
    '60',
    '-',
    '-',
    '5',
    '-',
    '-2',
  ]);
  assert.deepEqual(await cells('--tokens-per-minute 1000 --max-jobs 0'), [
    'acme',
    '60',
    '1000',
    '-',
    '5',
    '0',
    '-2',
  ]);
  assert.deepEqual(await cells('--requests-per-minute -1 --max-mb -1 --priority 0'), [
    'acme',
    '-',
    '1000',
    '-',
    '-',
    '0',
    '0',
  ]);
  const { out } = await run(folder, 'tenants list');
  assert.match(out, /^TENANT .*\nacme .*\ndefault +- +- +- +- +- +0\n$/);
});

test('mistakes end with 2 and say what would do, refusals end with 1', async (t) => {
  const folder = dataFolder(t);
  const scopes = await run(folder, 'keys create --scopes chat,root');
  assert.equal(scopes.code, 2);
  assert.equal(
    scopes.err,
    'Expected `scopes` to be one or more of chat, adapters, train, admin with commas between them, got `chat,root`\n',
  );
  const nobody = await run(folder, 'keys create --tenant nobody');
  assert.deepEqual(nobody, { code: 1, out: '', err: 'No tenant `nobody` exists; create it first\n' });
  assert.equal((await run(folder, 'keys revoke key_none')).code, 1);
  assert.equal((await run(folder, 'tenants set a/b')).code, 1);
  const zero = await run(folder, 'tenants set acme --requests-per-minute 0');
  assert.deepEqual([zero.code, /at least 1, or -1 to lift it/.test(zero.err)], [2, true]);
  assert.equal((await run(folder, 'keys list')).out, 'no keys; make one with `graft keys create`\n');
});

test('client commands send their key, from the flag or the environment, and none without', async (t) => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end('{"data":[]}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  const list = `adapters list --url http://127.0.0.1:${address.port}`;
  await run('/none', list);
  await run('/none', `${list} --api-key sk-flag`);
  await run('/none', list, { GRAFT_API_KEY: 'sk-env' });
  assert.deepEqual(seen, [undefined, 'Bearer sk-flag', 'Bearer sk-env']);
});
