// A quota of bytes holds over adapters and files together, whoever uploads at once.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createAdapterService } from '../../src/adapters/service.js';
import { addingInTurn, registeringInTurn } from '../../src/server/index.js';
import type { CheckQuota } from '../../src/tenants/check-quota.js';
import { createQuotaCheck, type Holder } from '../../src/tenants/quotas.js';
import { createTurns } from '../../src/tenants/turns.js';
import { adapterFiles, fixtureBase, gated } from '../helpers/adapter-fixtures.js';
import { addFile, testTraining } from '../helpers/training-jobs.js';

const ADAPTER = adapterFiles('llama-tied', 'lora-qv-r8');
const FILE = 'x'.repeat(1000);
const MANY_TURNS = 5_000;

async function turnsOfTheLoop(): Promise<void> {
  for (let i = 0; i < MANY_TURNS; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Both services with a quota that one upload fits into. Who has been let in waits, to let others be let in beside it. */
async function open(t: TestContext, maxBytes: number) {
  const holders: Holder[] = [];
  const checkQuota = createQuotaCheck(() => ({ adapters: null, bytes: maxBytes, jobs: null }), holders);
  const slowQuota: CheckQuota = async (...question) => {
    await checkQuota(...question);
    await turnsOfTheLoop();
  };
  const dataDir = mkdtempSync(join(tmpdir(), 'turns-'));
  const stored = await createAdapterService({
    base: fixtureBase('llama-tied'),
    cacheBytes: 1 << 20,
    keptVersions: 3,
    runPrompt: () => Promise.reject(new Error('no prompts here')),
    checkQuota: slowQuota,
    dataDir,
  });
  t.after(async () => {
    await stored.dispose();
    rmSync(dataDir, { recursive: true });
  });
  const { training: trained } = await testTraining(t, { checkQuota: slowQuota });
  const inTurn = createTurns();
  const adapters = registeringInTurn(stored, inTurn);
  const training = addingInTurn(trained, inTurn);
  holders.push(async (tenant) => ({ bytes: (await adapters.holdings(tenant)).sizeBytes }));
  holders.push(async (tenant) => ({ bytes: (await training.holdings(tenant)).sizeBytes }));
  const held = async (tenant: string) => {
    const parts = await Promise.all(holders.map((holder) => holder(tenant)));
    return parts.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  };
  return { adapters, training, held };
}

test('an adapter and a file at once: the second is judged with the first counted', async (t) => {
  const { adapters, training, held } = await open(t, 20_000);
  const { sizeBytes } = await adapters.of('probe').register('a', ADAPTER);
  assert(sizeBytes < 20_000 && 2 * sizeBytes > 20_000, `one fits and two do not, ${sizeBytes}`);
  const text = 'x'.repeat(sizeBytes);
  for (const fileFirst of [true, false]) {
    const tenant = `acme${fileFirst}`;
    const uploads = [
      () => addFile(training.of(tenant), text),
      () => adapters.of(tenant).register('a', ADAPTER),
    ];
    if (!fileFirst) uploads.reverse();
    const [first, second] = await Promise.allSettled(uploads.map((upload) => upload()));
    assert.equal(first!.status, 'fulfilled');
    assert(second?.status === 'rejected');
    assert.equal(second.reason.code, 'quota_exceeded');
    assert.equal(await held(tenant), sizeBytes);
  }
});

test('an upload that failed leaves its place to the next', async (t) => {
  const { adapters, training, held } = await open(t, FILE.length);
  const outcomes = await Promise.allSettled([
    adapters.of('acme').register('a', new Map()),
    addFile(training.of('acme'), `${FILE}x`),
    addFile(training.of('acme'), FILE),
  ]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled'],
  );
  assert.equal(await held('acme'), FILE.length);
});

test("a tenant's tasks come one after the other, another's beside them", async () => {
  const inTurn = createTurns();
  const gate = gated<void>();
  const seen: string[] = [];
  const first = inTurn('acme', async () => {
    await gate.promise;
    seen.push('first');
    throw new Error('first failed');
  });
  const second = inTurn('acme', async () => seen.push('second'));
  await inTurn('bolt', async () => seen.push('other'));
  gate.resolve();
  await assert.rejects(first, /first failed/);
  await second;
  assert.deepEqual(seen, ['other', 'first', 'second']);
});
