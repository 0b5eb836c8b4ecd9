// Usage: sums by tenant, adapter and day, and what is left of them after failures and kills.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { createUsageLedger, type UsageQuery } from '../../src/tenants/usage.js';
import { makeKey, openTenantDatabase, testTenants } from '../helpers/tenants.js';

const DAY_MS = 86_400_000;
/** 2023-11-14T22:13:20Z */
const NOW_MS = 1_700_000_000_000;
const one = { requests: 1, promptTokens: 10, cachedTokens: 4, completionTokens: 3 };
const ALL: UsageQuery = { tenant: null, adapter: null, from: null, to: null, groupBy: [] };

test('sums are told apart by what is asked for', async (t) => {
  const { tenants, time } = await testTenants(t, { nowMs: NOW_MS });
  const { usage } = tenants;
  usage.record('a', '', one);
  usage.record('a', 'legal', one);
  usage.record('a', 'legal', one);
  usage.record('b', 'legal', one);
  time.nowMs += DAY_MS;
  usage.record('a', 'legal', one);
  const rows = async (query: Partial<UsageQuery>) =>
    (await usage.sum({ ...ALL, ...query })).map((row) => [row.day, row.tenant, row.adapter, row.requests]);
  assert.deepEqual(await rows({ groupBy: ['tenant', 'adapter', 'day'] }), [
    ['2023-11-14', 'a', '', 1],
    ['2023-11-14', 'a', 'legal', 2],
    ['2023-11-14', 'b', 'legal', 1],
    ['2023-11-15', 'a', 'legal', 1],
  ]);
  assert.deepEqual(await rows({ groupBy: ['tenant'] }), [
    [null, 'a', null, 4],
    [null, 'b', null, 1],
  ]);
  assert.deepEqual(await rows({ tenant: 'a', adapter: 'legal', from: '2023-11-15' }), [
    [null, null, null, 1],
  ]);
  assert.deepEqual(await rows({ to: '2023-11-14' }), [[null, null, null, 4]]);
  assert.deepEqual(await rows({ tenant: 'nobody' }), []);
  assert.deepEqual(await usage.sum(ALL), [
    {
      tenant: null,
      adapter: null,
      day: null,
      requests: 5,
      promptTokens: 50,
      cachedTokens: 20,
      completionTokens: 15,
    },
  ]);
});

test('a batch that could not be written is kept and counted once', async (t) => {
  const { tenants, database } = await testTenants(t, { nowMs: NOW_MS });
  const { usage } = tenants;
  usage.record('a', '', one);
  await usage.flush();
  await database.schema.alterTable('usage').renameTo('elsewhere').execute();
  usage.record('a', '', one);
  await assert.rejects(usage.flush(), /no such table/);
  usage.record('a', '', one);
  await database.schema.alterTable('elsewhere').renameTo('usage').execute();
  assert.equal((await usage.sum(ALL))[0]!.requests, 3);
  assert.equal((await usage.sum(ALL))[0]!.requests, 3);
});

test('two servers on one file add up', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'usage-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'registry.db');
  const { tenants } = await testTenants(t, { nowMs: NOW_MS }, path);
  const database = openTenantDatabase(path);
  t.after(() => database.destroy());
  const other = createUsageLedger(
    database,
    () => NOW_MS,
    (error) => assert.fail(String(error)),
  );
  tenants.usage.record('a', '', one);
  other.record('a', '', one);
  await tenants.usage.flush();
  await other.flush();
  assert.equal((await other.sum(ALL))[0]!.requests, 2);
});

test('a key tells when it was last used', async (t) => {
  const { tenants } = await testTenants(t, { nowMs: NOW_MS });
  await makeKey(tenants, ['chat']);
  const [before] = await tenants.listKeys(null);
  assert.equal(before!.lastUsedAt, null);
  tenants.usage.keyUsed(before!.id);
  assert.equal((await tenants.listKeys(null))[0]!.lastUsedAt, NOW_MS / 1000);
});

/** Records one request, says so, and lives on; what it recorded is written by its own timer. */
const CHILD = `
  import { openTenants } from '${join(import.meta.dirname, '..', '..', 'src', 'tenants', 'service.ts')}';
  import { openTenantDatabase } from '${join(import.meta.dirname, '..', 'helpers', 'tenants.ts')}';
  const database = openTenantDatabase(process.argv[1]);
  const tenants = await openTenants({ database, clock: Date.now, onUsageFailure: console.error });
  tenants.usage.record('a', '', { requests: 1, promptTokens: 1, cachedTokens: 0, completionTokens: 1 });
  const watch = setInterval(async () => {
    const rows = await database.selectFrom('usage').selectAll().execute();
    if (rows.length > 0) { clearInterval(watch); console.log('written'); setInterval(() => {}, 1000); }
  }, 20);
`;

test('what its timer has written survives a kill', { timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'usage-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'registry.db');
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', CHILD, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: join(import.meta.dirname, '..', '..'),
  });
  const exited = once(child, 'exit');
  for await (const line of createInterface(child.stdout)) if (line === 'written') break;
  child.kill('SIGKILL');
  await exited;
  const { tenants } = await testTenants(t, { nowMs: NOW_MS }, path);
  assert.equal((await tenants.usage.sum(ALL))[0]!.requests, 1);
});
