// Kills a process that registers adapters with SIGKILL, at seeded moments of its own and from outside: what it acknowledged is there and
// loads, what it was at has happened whole or not at all, and nothing half-written is listed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { createAdapterService } from '../../src/adapters/service.js';
import type { AdapterInfo } from '../../src/adapters/types.js';
import { fixtureBase, seededRandom } from '../helpers/adapter-fixtures.js';

const ROUNDS = 5;
const child = join(import.meta.dirname, '..', 'helpers', 'adapter-crash-child.ts');

interface Change {
  readonly action: string;
  readonly name: string;
}
interface Outcome {
  /** Name -> `version hash` as it was last acknowledged, or null where it was removed. */
  readonly acknowledged: ReadonlyMap<string, string | null>;
  /** The change that was not acknowledged, if any. */
  readonly changing: Change | null;
}

const stateOf = (info: AdapterInfo | null) => (info === null ? null : `${info.version} ${info.hash}`);
const versionOf = (state: string | null) => Number(state?.split(' ')[0] ?? 0);

/** Runs the child until it kills itself before file operation `opsToLive`, or is killed after it has said `numLines` lines. */
async function runAndKill(dataDir: string, opsToLive: number, numLines: number): Promise<Outcome> {
  const parameters = ['--import', 'tsx', child, dataDir, `${opsToLive}`];
  const worker = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(worker, 'exit');
  const acknowledged = new Map<string, string | null>();
  let changing: Change | null = null;
  let numSeen = 0;
  for await (const line of createInterface({ input: worker.stdout })) {
    const [step, action, name, ...state] = line.split(' ');
    if (step === 'try') changing = { action: action!, name: name! };
    if (step === 'done') {
      acknowledged.set(name!, action === 'remove' ? null : state.join(' '));
      changing = null;
    }
    if (++numSeen === numLines) worker.kill('SIGKILL');
  }
  assert.deepEqual(await exited, [null, 'SIGKILL'], 'the child ended by itself');
  return { acknowledged, changing };
}

test('everything acknowledged survives kill -9', async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'adapters-crash-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const random = seededRandom(99);
  const pick = (count: number) => Math.floor(((random() + 1) / 2) * count);
  const before = new Map<string, string | null>();
  let numAcknowledged = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const isFromOutside = round === 2;
    const { acknowledged, changing } = await runAndKill(
      dataDir,
      isFromOutside ? Infinity : 10 + pick(60),
      isFromOutside ? 2 + pick(20) : Infinity,
    );
    numAcknowledged += acknowledged.size;
    for (const [name, state] of acknowledged) before.set(name, state);
    const adapters = await createAdapterService({
      dataDir,
      base: fixtureBase('llama-tied'),
      cacheBytes: 1 << 20,
      keptVersions: 2,
      runPrompt: () => Promise.reject(new Error('no prompts here')),
    });
    const service = adapters.of('default');
    for (const [name, state] of before) {
      const now = stateOf(await service.get(name));
      if (name !== changing?.name || now === state) assert.equal(now, state, `${name} in round ${round}`);
      else assert.equal(versionOf(now), changing.action === 'remove' ? 0 : versionOf(state) + 1);
    }
    for (const info of await service.list()) {
      const versions = await service.versions(info.name);
      assert.ok(versions.length <= 2, `${versions.length} versions are kept`);
      for (const { info: version } of versions) {
        const lease = await service.acquire(`${version.name}@${version.version}`);
        assert.equal(lease.adapter.hash, version.hash);
        lease.release();
      }
    }
    for (const name of ['n0', 'n1', 'n2']) before.set(name, stateOf(await service.get(name)));
    await adapters.dispose();
    const left = readdirSync(join(dataDir, 'adapters')).filter((name) => name.startsWith('.tmp-'));
    assert.deepEqual(left, [], 'half-written files are swept at the start');
  }
  assert.ok(numAcknowledged >= ROUNDS, `${numAcknowledged} changes were acknowledged in all`);
});
