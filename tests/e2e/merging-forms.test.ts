// Each form of merged weights over a tiny base, built and checked as a merge does it: how far it is from the unmerged path.
import { chooseKernels } from '../../src/runtime/native-kernels.js';
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FormReport } from '../../src/adapters/merging/report.js';
import type { LoraAdapter, ServingAdapter } from '../../src/adapters/types.js';
import { runMerge, type MergeOrder } from '../../src/engine/merging/merge-run.js';
import type { MergedForm } from '../../src/model/merged/merged-model.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { tinyModel, type TinyModel } from '../helpers/tiny-model.js';

const NO_BOUNDS = { maxMeanKl: Infinity, minTop1: 0 };
let work: string;
let f32: TinyModel;
let q4: TinyModel;

before(async () => {
  work = mkdtempSync(join(tmpdir(), 'merging-'));
  [f32, q4] = await Promise.all([tinyModel('llama-tied', 'f32'), tinyModel('llama-tied', 'q4')]);
});
after(() => {
  f32.dispose();
  q4.dispose();
  rmSync(work, { recursive: true, force: true });
});

function order(model: TinyModel, adapter: LoraAdapter, options: Partial<MergeOrder> = {}): MergeOrder {
  const { architecture } = model.artifact.manifest;
  const prompts = (seed: number) =>
    Array.from({ length: 6 }, (_, i) => randomTokens(seed + i, 24, architecture.vocabSize));
  return {
    artifactFolder: model.artifact.folder,
    architecture,
    adapter,
    calibration: prompts(100),
    checks: prompts(200),
    folder: mkdtempSync(join(work, 'merge-')),
    forms: ['folded'],
    bounds: NO_BOUNDS,
    threads: 1,
    kernels: chooseKernels('auto'),
    rowCounts: [1, 2],
    ...options,
  };
}

async function reportsOf(what: MergeOrder): Promise<readonly FormReport[]> {
  const reports: FormReport[] = [];
  await runMerge(
    what,
    (report) => reports.push(report),
    () => performance.now(),
  );
  return reports;
}

async function reportOf(model: TinyModel, adapter: LoraAdapter, form: MergedForm): Promise<FormReport> {
  const [report] = await reportsOf(order(model, adapter, { forms: [form] }));
  return report!;
}

function lora(adapter: ServingAdapter): LoraAdapter {
  assert(adapter.kind === 'lora');
  return adapter;
}

test('folded as constants over f32 weights, nothing drifts', async () => {
  const { drift } = await reportOf(f32, randomLora(f32.artifact.manifest.architecture, 1), 'folded');
  assert(drift.meanKl < 1e-9 && drift.top1 === 1, JSON.stringify(drift));
});

test('an adapter that changes some projections alone is folded into these', async () => {
  const some = randomLora(f32.artifact.manifest.architecture, 2, { projections: ['k_proj', 'up_proj'] });
  const { drift } = await reportOf(f32, some, 'folded');
  assert(drift.meanKl < 1e-9 && drift.top1 === 1, JSON.stringify(drift));
});

for (const name of ['dora-all-r8', 'ia3', 'lora-bias-all'])
  test(`${name}: scales and biases are folded without drift, and merged into 8 bits with little`, async () => {
    const engine = await f32.open();
    try {
      const adapter = lora(await f32.adapter(name, engine));
      const folded = await reportOf(f32, adapter, 'folded');
      assert(folded.drift.meanKl < 1e-9 && folded.drift.top1 === 1, JSON.stringify(folded.drift));
      const rounded = await reportOf(f32, adapter, 'int8');
      assert(rounded.drift.meanKl < 0.005, JSON.stringify(rounded.drift));
    } finally {
      await engine.dispose();
    }
  });

test('8 bits drift little from f32, 4 bits more, and less than the adapter itself changes', async () => {
  const { architecture } = f32.artifact.manifest;
  const adapter = randomLora(architecture, 3);
  const [int8, int4] = [await reportOf(f32, adapter, 'int8'), await reportOf(f32, adapter, 'int4')];
  assert(int8.drift.meanKl > 0 && int8.drift.meanKl < 0.005, JSON.stringify(int8.drift));
  assert(int4.drift.meanKl > int8.drift.meanKl && int4.drift.meanKl < 0.5, JSON.stringify(int4.drift));
});

test('over 4-bit weights, a folded adapter drifts little further than the unmerged path from itself', async () => {
  const { drift } = await reportOf(q4, randomLora(q4.artifact.manifest.architecture, 4), 'folded');
  // The unmerged path may keep the adapter in f16.
  assert(drift.meanKl <= 4 * drift.selfKl + 1e-3, JSON.stringify(drift));
});

test('a form beyond the bounds is not timed, not served, and leaves no file', async () => {
  const bad = order(f32, randomLora(f32.artifact.manifest.architecture, 5), {
    forms: ['int4', 'int8'],
    bounds: { maxMeanKl: 1e-12, minTop1: 1 },
  });
  const found: FormReport[] = [];
  assert.equal(
    await runMerge(
      bad,
      (report) => found.push(report),
      () => performance.now(),
    ),
    null,
  );
  assert.deepEqual(
    found.map(({ form, verdict, gain }) => ({ form, verdict, gain })),
    [
      { form: 'int4', verdict: 'drifts', gain: null },
      { form: 'int8', verdict: 'drifts', gain: null },
    ],
  );
  assert.deepEqual(readdirSync(bad.folder), []);
});

test('a form that is within the bounds but no faster leaves no file either; one that is faster stays', async () => {
  const { architecture } = f32.artifact.manifest;
  for (const [mergedMs, verdict] of [
    [3, 'not faster'],
    [1, 'served'],
  ] as const) {
    const what = order(f32, randomLora(architecture, 6));
    const reports: FormReport[] = [];
    const form = await runMerge(what, (report) => reports.push(report), stepClock(mergedMs));
    assert.equal(reports[0]!.verdict, verdict);
    assert.equal(form, verdict === 'served' ? 'folded' : null);
    assert.deepEqual(readdirSync(what.folder), form === null ? [] : ['folded']);
    assert.deepEqual(
      reports[0]!.gain!.decode.map(({ rows, ratio }) => [rows, ratio]),
      [1, 2].map((rows) => [rows, 2 / mergedMs]),
    );
  }
});

/** Read in pairs, around the making of the form and then in turn around unmerged and merged runs: the former take 2 ms. */
function stepClock(mergedMs: number): () => number {
  let numReads = 0;
  let nowMs = 0;
  return () => {
    const isEnd = numReads % 2 === 1;
    const isMerged = Math.floor(numReads / 2) % 2 === 0;
    if (isEnd) nowMs += isMerged ? mergedMs : 2;
    numReads++;
    return nowMs;
  };
}
