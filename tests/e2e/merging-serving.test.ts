// Merged weights beside requests: swapped in and out between steps, used where every row has their adapter, dropped with it.
import { chooseKernels } from '../../src/runtime/native-kernels.js';
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import type { FormReport } from '../../src/adapters/merging/report.js';
import type { LoraAdapter } from '../../src/adapters/types.js';
import { MergeController, type MergeOptions } from '../../src/engine/merging/merge-controller.js';
import { startMergeProcess, type StartMerge } from '../../src/engine/merging/merge-process.js';
import { runMerge, type MergeOrder } from '../../src/engine/merging/merge-run.js';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import type { MergedForm } from '../../src/model/merged/merged-model.js';
import { alone, assertSame, together, until } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel, type TinyModel } from '../helpers/tiny-model.js';

/** Log-probabilities of rounded weights on a tiny base. */
const ROUNDED = 0.25;
let work: string;
let model: TinyModel;

before(async () => {
  work = mkdtempSync(join(tmpdir(), 'merging-'));
  model = await tinyModel('llama-tied', 'f32');
});
after(() => {
  model.dispose();
  rmSync(work, { recursive: true, force: true });
});

interface Setup {
  readonly open: OpenEngine;
  readonly controller: MergeController;
  readonly adapter: LoraAdapter;
  readonly folder: string;
  /** Adapters that are registered now. */
  readonly registered: Set<string>;
  readonly free: { bytes: number };
  /** As many requests as make the adapter hot, and idle time enough. */
  readonly heat: () => Promise<void>;
  readonly advance: (ms: number) => void;
}

async function setup(
  t: TestContext,
  startMerge: StartMerge,
  options: Partial<MergeOptions> = {},
): Promise<Setup> {
  const open = await model.open({ prefixCacheBytes: 2 ** 24 });
  const { architecture } = model.artifact.manifest;
  const adapter = randomLora(architecture, 1);
  const folder = join(mkdtempSync(join(work, 'serving-')), 'merged');
  const registered = new Set([adapter.hash]);
  const free = { bytes: 2 ** 30 };
  let nowMs = 0;
  const controller = new MergeController({
    settings: { idleMs: 1_000, bounds: { maxMeanKl: 1, minTop1: 0 }, minFreeBytes: 2 ** 20 },
    slot: open.mergedSlot,
    folder,
    order: () => ({
      artifactFolder: model.artifact.folder,
      architecture,
      calibration: [randomTokens(1, 24, 320)],
      checks: [randomTokens(2, 24, 320)],
      threads: 1,
      kernels: chooseKernels('auto'),
      rowCounts: [1],
    }),
    startMerge,
    isBusy: () => open.engine.stats().numRunning + open.engine.stats().numWaiting > 0,
    isRegistered: (hash) => Promise.resolve(registered.has(hash)),
    freeBytes: () => free.bytes,
    clock: () => nowMs,
    log: () => {},
    ...options,
  });
  open.engine.onRequest = (asked) => controller.requested(asked);
  t.after(async () => {
    await controller.close();
    await open.dispose();
    assert.equal(open.liveHandles(), 0, 'native objects were left');
    assert.equal(existsSync(folder), false, 'files were left');
  });
  return {
    open,
    controller,
    adapter,
    folder,
    registered,
    free,
    advance: (ms) => void (nowMs += ms),
    heat: async () => {
      await together(
        open,
        Array.from({ length: 8 }, (_, i) => request(randomTokens(i, 4, 320), { adapter })),
      );
      await until(() => open.engine.stats().numRunning === 0, 'the slots are free');
      nowMs += 1_000;
    },
  };
}

/** A merge in this process, in one form, which counts as faster: its clock stands still for merged runs. */
function merging(form: MergedForm): StartMerge {
  return (order: MergeOrder, onReport) => {
    let numReads = 0;
    let nowMs = 0;
    const clock = () => (numReads++ % 4 === 3 ? (nowMs += 2) : (nowMs += 1));
    const result = runMerge({ ...order, forms: [form] }, onReport, clock);
    return { result, kill: () => {} };
  };
}

async function merged(t: TestContext, form: MergedForm): Promise<Setup> {
  const parts = await setup(t, merging(form));
  await parts.heat();
  await parts.controller.tick();
  await parts.controller.settled();
  assert.equal(parts.controller.servedForm(parts.adapter.hash), form);
  return parts;
}

const prompts = Array.from({ length: 4 }, (_, i) => randomTokens(50 + i, 20 + i, 320));

for (const [form, tolerance] of [
  ['folded', 1e-4],
  ['int8', ROUNDED],
] as const)
  test(`${form}: answers of merged weights are those of the unmerged path, alone and in company`, async (t) => {
    const { open, controller, adapter, registered } = await merged(t, form);
    const other = randomLora(model.artifact.manifest.architecture, 9);
    const own = prompts.map((tokens) => request(tokens, { adapter, sampling: { maxTokens: 12 } }));
    const mixed = [own[0]!, request(prompts[1]!), request(prompts[2]!, { adapter: other }), own[3]!];
    const numBefore = open.engine.stats().numSteps;
    const answers = [await alone(open, own), await together(open, own), await together(open, mixed)];
    assert(open.engine.stats().numSteps > numBefore);
    registered.clear();
    await controller.tick();
    assert.equal(controller.servedForm(adapter.hash), null);
    const expected = [await alone(open, own), await together(open, own), await together(open, mixed)];
    answers.forEach((each, i) =>
      each.forEach((answer, j) => {
        if (form === 'folded') assertSame(answer, expected[i]![j]!, `${i}, ${j}`, tolerance);
        else
          assert(
            Math.abs(answer.logprobs[0]! - expected[i]![j]!.logprobs[0]!) < tolerance,
            `${answer.logprobs[0]} against ${expected[i]![j]!.logprobs[0]}`,
          );
      }),
    );
  });

test('merged weights compute: a run of their adapter alone uses them, one with others beside it does not', async (t) => {
  const { open, adapter } = await merged(t, 'folded');
  await collect(open.engine.generate(request(prompts[0]!, { adapter })));
  assert.equal(open.runner.lastMerged?.hash, adapter.hash);
  await together(open, [request(prompts[0]!, { adapter }), request(prompts[1]!)]);
  assert.equal(open.runner.lastMerged, null);
  await collect(open.engine.generate(request(prompts[0]!)));
  assert.equal(open.runner.lastMerged, null);
});

test('weights swapped in and out while requests run change no answer, and each request ends once', async (t) => {
  const { open, controller, adapter, registered, folder } = await merged(t, 'folded');
  const copy = {
    hash: adapter.hash,
    form: 'folded',
    folder: join(folder, readdirSync(folder)[0]!, 'folded'),
  } as const;
  const asked = prompts.map((tokens) => request(tokens, { adapter, sampling: { maxTokens: 60 } }));
  const running = together(open, asked);
  const used = new Set<boolean>();
  for (const next of [null, { ...copy, servesPrefill: true }, null, { ...copy, servesPrefill: false }]) {
    const midway = open.engine.stats().numSteps + 5;
    await until(() => open.engine.stats().numSteps >= midway, 'requests run');
    used.add(open.runner.lastMerged !== null);
    await open.mergedSlot.swap(next);
  }
  assert.equal(used.size, 2, 'both ways were used');
  assert(open.engine.stats().numRunning > 0, 'the swaps came while requests ran');
  const answers = await running;
  assert.deepEqual(
    answers.map(({ finish, tokens }) => [finish, tokens.length]),
    asked.map(() => ['length', 60]),
  );
  registered.clear();
  await controller.tick();
  const expected = await together(open, asked);
  answers.forEach((answer, i) => assertSame(answer, expected[i]!, `request ${i}`));
});

test('rounded weights’ keys and values are never found by unmerged requests, folded ones’ are', async (t) => {
  for (const form of ['int8', 'folded'] as const) {
    const { open, controller, adapter, registered } = await merged(t, form);
    const ask = () => collect(open.engine.generate(request(randomTokens(77, 40, 320), { adapter })));
    assert.equal((await ask()).numCachedTokens, 0);
    assert((await ask()).numCachedTokens >= 32);
    registered.clear();
    await controller.tick();
    assert.equal((await ask()).numCachedTokens > 0, form === 'folded');
  }
});

test('a merge under way stops at the first request, and is begun anew when the server is idle again', async (t) => {
  let numStarted = 0;
  let numKilled = 0;
  const parts = await setup(t, () => {
    numStarted++;
    let end: (error: Error) => void;
    const result = new Promise<never>((_, reject) => (end = reject));
    return {
      result,
      kill: () => {
        numKilled++;
        end(new Error('killed'));
      },
    };
  });
  await parts.heat();
  await parts.controller.tick();
  assert.equal(numStarted, 1);
  await collect(parts.open.engine.generate(request(prompts[0]!)));
  assert.equal(numKilled, 1);
  await parts.controller.settled();
  await parts.controller.tick();
  assert.equal(numStarted, 1, 'not before it was idle for the set time');
  parts.advance(1_000);
  await until(() => parts.open.engine.stats().numRunning === 0, 'idle');
  await parts.controller.tick();
  parts.advance(1_000);
  await parts.controller.tick();
  assert.equal(numStarted, 2);
  assert.deepEqual(parts.controller.counts, { started: 2, served: 0, refused: 0, stopped: 1, failed: 0 });
});

test('a merge whose process crashes harms nothing, and is not tried again at once', async (t) => {
  let numStarted = 0;
  const parts = await setup(t, () => {
    numStarted++;
    return { result: Promise.reject(new Error('crash')), kill: () => {} };
  });
  await parts.heat();
  for (let i = 0; i < 3; i++) {
    await parts.controller.tick();
    await parts.controller.settled();
  }
  assert.deepEqual([numStarted, parts.controller.counts.failed], [1, 1]);
  const { finish } = await collect(
    parts.open.engine.generate(request(prompts[0]!, { adapter: parts.adapter })),
  );
  assert.equal(finish, 'length');
});

test('short memory drops merged weights and lets no merge begin', async (t) => {
  const { open, controller, adapter, free, heat } = await merged(t, 'folded');
  free.bytes = 0;
  await controller.tick();
  assert.equal(controller.servedForm(adapter.hash), null);
  await heat();
  await controller.tick();
  assert.equal(controller.counts.started, 1);
  free.bytes = 2 ** 30;
  await controller.tick();
  await controller.settled();
  assert.equal(controller.servedForm(adapter.hash), 'folded');
  await collect(open.engine.generate(request(prompts[0]!, { adapter })));
  assert.equal(open.runner.lastMerged?.hash, adapter.hash);
});

test('what is no registered adapter is never merged', async (t) => {
  const { controller, registered, heat } = await setup(t, merging('folded'));
  registered.clear();
  await heat();
  await controller.tick();
  assert.equal(controller.counts.started, 0);
});

test('a version that goes while its merge runs is not swapped in', async (t) => {
  const { controller, adapter, registered, heat, folder } = await setup(t, merging('folded'));
  await heat();
  await controller.tick();
  registered.clear();
  await controller.settled();
  assert.equal(controller.servedForm(adapter.hash), null);
  assert.deepEqual(readdirSync(folder), []);
});

test('the process of a merge reports each form and leaves the one that is taken; killed, it leaves no answer', async () => {
  const { architecture } = model.artifact.manifest;
  const order: MergeOrder = {
    artifactFolder: model.artifact.folder,
    architecture,
    adapter: randomLora(architecture, 3),
    calibration: [randomTokens(1, 24, 320)],
    checks: [randomTokens(2, 24, 320)],
    folder: mkdtempSync(join(work, 'process-')),
    forms: ['int4', 'int8'],
    bounds: { maxMeanKl: 0, minTop1: 1 },
    threads: 1,
    kernels: chooseKernels('auto'),
    rowCounts: [1],
  };
  const reports: FormReport[] = [];
  const process = startMergeProcess(order, (report) => reports.push(report));
  assert.equal(await process.result, null);
  assert.deepEqual(
    reports.map(({ form, verdict }) => [form, verdict]),
    [
      ['int4', 'drifts'],
      ['int8', 'drifts'],
    ],
  );
  const killed = startMergeProcess(order, () => {});
  killed.kill();
  await assert.rejects(killed.result, /SIGKILL/);
});
