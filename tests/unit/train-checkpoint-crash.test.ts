// Kills a training process with SIGKILL, at seeded moments of its own and from outside, and starts it again: the weights it ends with are
// those of a run that nobody killed, bit for bit, and at any moment in between what is on disk is whole.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { readTensors } from '../helpers/adapter-fixtures.js';
import { crashRun } from '../helpers/crash-run.js';
import { adapterBytes, runSmall, temporaryFolder } from '../helpers/training-runs.js';

const child = join(import.meta.dirname, '..', 'helpers', 'training-crash-child.ts');

interface Life {
  readonly isKilled: boolean;
  readonly lines: readonly string[];
}

/** Runs the child until it kills itself before file operation `opsToLive`, is killed after it has said `numLines` lines, or has finished. */
async function live(folder: string, opsToLive: number, numLines: number): Promise<Life> {
  const parameters = ['--import', 'tsx', child, folder, `${opsToLive}`];
  const worker = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(worker, 'exit');
  const lines: string[] = [];
  for await (const line of createInterface({ input: worker.stdout })) {
    lines.push(line);
    if (lines.length === numLines) worker.kill('SIGKILL');
  }
  const [code, signal]: (number | string | null)[] = await exited;
  assert(signal === 'SIGKILL' || code === 0, `the child ended with ${code} ${signal}`);
  return { isKilled: signal === 'SIGKILL', lines };
}

/** Every checkpoint that has its name can be read. */
function assertWhole(folder: string): void {
  const root = join(folder, 'checkpoints');
  const names = existsSync(root) ? readdirSync(root).filter((name) => name.startsWith('step-')) : [];
  for (const name of names) {
    const path = join(root, name);
    const state: { step: number } = JSON.parse(readFileSync(join(path, 'state.json'), 'utf8'));
    assert.equal(name, `step-${String(state.step).padStart(8, '0')}`);
    for (const file of ['parameters', 'first-moments', 'second-moments', 'adapter/adapter_model'])
      readTensors(readFileSync(join(path, `${file}.safetensors`)));
  }
}

async function finalBytes(t: TestContext): Promise<Buffer> {
  const folder = temporaryFolder(t);
  await runSmall(folder, crashRun());
  return adapterBytes(folder);
}

test('killed and started again, the run ends with the weights of the unbroken one', async (t) => {
  const expected = await finalBytes(t);
  const folder = temporaryFolder(t);
  // Numbers of file operations that fall into sweeping, writing, syncing, renaming, and removing older ones; null is from outside.
  const lives = [7, 19, 23, 29, null, 31, 38, null, 46, 53, 61];
  let numKilled = 0;
  for (const opsToLive of lives) {
    const life = await live(folder, opsToLive ?? Infinity, opsToLive === null ? 2 : Infinity);
    assertWhole(folder);
    if (life.isKilled) numKilled++;
  }
  assert(numKilled >= 6, `${numKilled} lives ended by SIGKILL`);
  const { isKilled, lines } = await live(folder, Infinity, Infinity);
  assert.equal(isKilled, false);
  assert.match(lines.at(-1)!, /^(finished|early_stopped)/);
  assert(adapterBytes(folder).equals(expected));
});

test('killed while it publishes its adapter, the run publishes it when started again', async (t) => {
  const expected = await finalBytes(t);
  const folder = temporaryFolder(t);
  await runSmall(folder, crashRun());
  for (const opsToLive of [5, 8, 10, 12, 14, 16, 18]) {
    await live(folder, opsToLive, Infinity);
    assertWhole(folder);
  }
  assert.equal((await live(folder, Infinity, Infinity)).isKilled, false);
  assert(adapterBytes(folder).equals(expected));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('.tmp-')),
    [],
  );
});
