// What merging decides from counts, times and figures alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DriftMeter, isWithin } from '../../src/adapters/merging/drift.js';
import { Hotness } from '../../src/adapters/merging/hotness.js';
import { formsLeft, nextToMerge, type MergeSituation } from '../../src/adapters/merging/policy.js';
import { isFaster, type FormReport } from '../../src/adapters/merging/report.js';

const BOUNDS = { maxMeanKl: 0.01, minTop1: 0.99 };

function drift(unmerged: number[], again: number[], merged: number[]) {
  const meter = new DriftMeter(unmerged.length);
  meter.add(Float32Array.from(unmerged), Float32Array.from(again), Float32Array.from(merged));
  return meter.result();
}

function situation(hotness: Hotness, options: Partial<MergeSituation> = {}): MergeSituation {
  return {
    idleMs: 10,
    requiredIdleMs: 10,
    hotness,
    nowMs: 0,
    mergedHash: null,
    formsLeft: () => ['folded'],
    ...options,
  };
}

function hot(counts: Readonly<Record<string, number>>): Hotness {
  const hotness = new Hotness();
  for (const [hash, count] of Object.entries(counts)) for (let i = 0; i < count; i++) hotness.count(hash, 0);
  return hotness;
}

test('the same logits drift by nothing', () => {
  const figures = drift([1, 5, 2], [1, 5, 2], [1, 5, 2]);
  assert.deepEqual(figures, { meanKl: 0, top1: 1, decided: 1, selfKl: 0 });
  assert(isWithin(figures, BOUNDS));
});

test('drift is the KL divergence of the two distributions', () => {
  const { meanKl, top1 } = drift([Math.log(3), 0], [Math.log(3), 0], [0, Math.log(3)]);
  assert(Math.abs(meanKl - (0.75 * Math.log(3) - 0.25 * Math.log(3))) < 1e-6);
  assert.equal(top1, 0);
});

test('another first token counts only where the unmerged path is clear of its own noise', () => {
  assert.equal(drift([1, 1.01], [1.1, 1.01], [1.1, 1]).decided, 0);
  assert.equal(drift([1, 3], [1.1, 3], [3, 1]).top1, 0);
});

test('figures that are no numbers are not within the bounds', () => {
  assert.equal(isWithin(drift([1, 3], [1, 3], [Number.NaN, 1]), BOUNDS), false);
  assert.equal(isWithin({ meanKl: 0, top1: Number.NaN, decided: 0, selfKl: 0 }, BOUNDS), false);
});

test('a form is taken only if every step that was timed is faster beyond noise', () => {
  const gain = (...ratios: number[]) => ({
    decode: ratios.map((ratio, rows) => ({ rows, ratio })),
    prefill: 1,
  });
  assert(isFaster(gain(1.1, 1.2)));
  assert.equal(isFaster(gain(1.4, 1.02)), false);
});

test('requests count half after ten minutes, and who is asked for no more is forgotten', () => {
  const hotness = hot({ a: 8, b: 2 });
  assert.equal(hotness.score('a', 600_000), 4);
  hotness.count('b', 600_000);
  assert.deepEqual(
    hotness.ranking(600_000).map(({ hash }) => hash),
    ['a', 'b'],
  );
  assert.deepEqual(hotness.ranking(600_000 * 20), []);
});

test('the hottest adapter is merged once the server was idle long enough', () => {
  const hotness = hot({ a: 5, b: 9 });
  assert.equal(nextToMerge(situation(hotness, { idleMs: 9 })), null);
  assert.equal(nextToMerge(situation(hotness)), 'b');
});

test('an adapter that few requests named is not merged', () => {
  assert.equal(nextToMerge(situation(hot({ a: 3 }))), null);
});

test('another adapter takes the place only when it is twice as hot', () => {
  assert.equal(nextToMerge(situation(hot({ a: 10, b: 19 }), { mergedHash: 'a' })), null);
  assert.equal(nextToMerge(situation(hot({ a: 10, b: 20 }), { mergedHash: 'a' })), 'b');
});

test('what has no form left lets the next one pass', () => {
  const left: MergeSituation['formsLeft'] = (hash) => (hash === 'b' ? [] : ['folded']);
  assert.equal(nextToMerge(situation(hot({ a: 5, b: 9 }), { formsLeft: left })), 'a');
});

test('a form that was refused is not made again, one that was served is', () => {
  const report = (form: FormReport['form'], verdict: FormReport['verdict']): FormReport => ({
    form,
    verdict,
    drift: { meanKl: 0, top1: 1, decided: 1, selfKl: 0 },
    gain: null,
    sizeBytes: 1,
    buildMs: 1,
  });
  const reports = [report('int4', 'drifts'), report('int8', 'not faster'), report('folded', 'served')];
  assert.deepEqual(formsLeft(['int4', 'int8', 'folded'], reports), ['folded']);
});
