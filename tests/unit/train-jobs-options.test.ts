// What "auto" and silence mean: defaults by method, stage and amount of data.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkAdapterName } from '../../src/adapters/adapter-name.js';
import { checkpointName, modelName, newId } from '../../src/train/jobs/ids.js';
import { resolveOptions } from '../../src/train/jobs/job-options.js';
import type { MethodChoice, OptionChoices } from '../../src/train/jobs/types.js';
import { DEFAULT_OPTIONS } from '../../src/train/options.js';

const AUTO: OptionChoices = {
  method: { name: 'lora' },
  batchSize: 'auto',
  epochs: 'auto',
  learningRateMultiplier: 'auto',
  dpo: { beta: 'auto' },
};
const resolve = (changes: Partial<OptionChoices> = {}, numExamples = 1000, contextLength = 8192) =>
  resolveOptions({ ...AUTO, ...changes }, numExamples, contextLength).options;

test('a large file with nothing chosen gets the defaults', () => {
  assert.deepEqual(resolve(), DEFAULT_OPTIONS);
});

test('the learning rate depends on method and stage, and is multiplied', () => {
  const rates: [MethodChoice, number][] = [
    [{ name: 'lora' }, 3e-4],
    [{ name: 'full' }, 2e-5],
    [{ name: 'prefix_tuning' }, 1e-2],
    [{ name: 'prefix_tuning', projection: { hidden: 8 } }, 1e-3],
    [{ name: 'prompt_tuning' }, 3e-2],
    [{ name: 'p_tuning' }, 1e-3],
    [{ name: 'bitfit' }, 1e-3],
    [{ name: 'bottleneck' }, 1e-3],
  ];
  for (const [method, rate] of rates) assert.equal(resolve({ method }).learningRate, rate, method.name);
  const preference = resolve({ stage: 'dpo' }).learningRate;
  assert(Math.abs(preference - 5e-6) < 1e-12, String(preference));
  assert.equal(resolve({ learningRateMultiplier: 2 }).learningRate, 6e-4);
  assert.equal(resolve({ learningRate: 0.5 }).learningRate, 0.5);
});

test('the document has the same rates, to two digits', () => {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'fine-tuning.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)`( with `prefix_projection`)? +\| (\d\S*) +\| (\S+) +\|$/gm)];
  assert.equal(rows.length, 8);
  for (const [, name, projected, supervised, preference] of rows) {
    const choice = { name, ...(projected !== undefined && { projection: { hidden: 8 } }) } as MethodChoice;
    const rate = (stage: 'sft' | 'dpo') => resolve({ method: choice, stage }).learningRate.toPrecision(2);
    assert.equal(Number(rate('sft')), Number(supervised), name);
    if (name !== 'full') assert.equal(Number(rate('dpo')), Number(preference), name);
  }
});

test('small files get small batches and more epochs, so that there are steps at all', () => {
  const auto = (numExamples: number, changes: Partial<OptionChoices> = {}) => {
    const { batchSize, accumulation, epochs } = resolve(changes, numExamples);
    return [batchSize * accumulation, epochs];
  };
  assert.deepEqual(auto(0), [1, 10]);
  assert.deepEqual(auto(10), [1, 10]);
  assert.deepEqual(auto(40), [3, 8]);
  assert.deepEqual(auto(100), [7, 7]);
  assert.deepEqual(auto(10_000), [8, 3]);
  assert.deepEqual(auto(10, { stage: 'dpo' }), [1, 3]);
  assert.deepEqual(auto(10_000, { stage: 'dpo' }), [8, 1]);
});

test('a batch is cut into the fewest even micro-batches, or as chosen', () => {
  for (const [batchSize, expected] of [
    [1, [1, 1]],
    [8, [8, 1]],
    [12, [6, 2]],
    [13, [1, 13]],
    [256, [8, 32]],
  ] as const) {
    const options = resolve({ batchSize });
    assert.deepEqual([options.batchSize, options.accumulation], expected);
  }
  assert.deepEqual([resolve({ batchSize: 8, accumulation: 4 }).batchSize], [2]);
});

test('no example is longer than the base reads; choices of nothing change nothing', () => {
  assert.equal(resolve({}, 9, 256).cutoffLength, 256);
  assert.equal(resolve({ cutoffLength: 64 }).cutoffLength, 64);
  assert.deepEqual(resolve({ packing: undefined, seed: undefined }), DEFAULT_OPTIONS);
  assert.equal(resolve({ earlyStoppingPatience: null }).earlyStoppingPatience, null);
});

test('alpha is twice the rank unless it is chosen', () => {
  const alpha = (method: MethodChoice) => {
    const resolved = resolve({ method }).method;
    return resolved.name === 'lora' ? resolved.alpha : null;
  };
  assert.equal(alpha({ name: 'lora', rank: 4 }), 8);
  assert.equal(alpha({ name: 'lora', rank: 4, alpha: 4 }), 4);
});

test('the longest names, of any base, are names that an adapter may have', () => {
  const longest = modelName(
    'Ünnatural base/with "odd" letters that goes on and on',
    'x'.repeat(64),
    newId('ftjob'),
  );
  for (const name of [longest, checkpointName(longest, 999_999_999), modelName('tiny', null, newId('ftjob'))])
    checkAdapterName(name, 'base');
  assert.match(modelName('tiny', null, 'ftjob-abcdefghijklmnop'), /^ft:tiny::abcdefghijkl$/);
  assert.match(modelName('tiny', 'mine', 'ftjob-abcdefghijklmnop'), /^ft:tiny:mine:abcdefghijkl$/);
});

test('ids are of their kind and never the same', () => {
  const ids = Array.from({ length: 100 }, () => newId('ftevent'));
  for (const id of ids) assert.match(id, /^ftevent-[a-z0-9]{24}$/);
  assert.equal(new Set(ids).size, 100);
});
