// How a run ends other than at its last step: stopped, paused, cancelled, or failed; and what it leaves behind.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import type { Control } from '../../src/train/run-types.js';
import type { TrainingModel } from '../../src/train/types.js';
import { readTensors } from '../helpers/adapter-fixtures.js';
import { chains, type Sequence, sequenceSource } from '../helpers/token-data.js';
import { bigramModel } from '../helpers/token-models.js';
import { adapterBytes, eventsOf, runSmall, temporaryFolder } from '../helpers/training-runs.js';

const data = chains({ vocabSize: 16, numSequences: 24, length: 10 });
const heldOut = chains({ vocabSize: 16, numSequences: 12, length: 10, seed: 2 });
const heldOutSource = sequenceSource(heldOut, { batchSize: 4, seed: null });

for (const wanted of ['stop', 'pause'] as const)
  test(`${wanted} in the middle of a window leaves the last whole step as a checkpoint and as an adapter`, async (t) => {
    const folder = temporaryFolder(t);
    const tokenModel = bigramModel(16);
    let afterThree: Float32Array | null = null;
    let numAsked = 0;
    const run = await runSmall(folder, {
      tokenModel,
      batches: sequenceSource(data, { batchSize: 1 }),
      options: { accumulation: 4 },
      control: () => (afterThree !== null && ++numAsked > 2 ? wanted : 'run'),
      onEvent(event) {
        if (event.type === 'step' && event.step === 3)
          afterThree = tokenModel.model.parameters[0]!.values.slice();
      },
    });
    assert.deepEqual(run.outcome, { kind: 'stopped', step: 3, bestStep: 3 });
    assert.deepEqual(readTensors(adapterBytes(folder)).get('bigram.weight')!.data, afterThree);
    const { path, step } = eventsOf(run, 'checkpoint').at(-1)!;
    assert.deepEqual([step, path], [3, join(folder, 'checkpoints', folderName(3))]);
    assert.deepEqual(readdirSync(join(path, 'adapter')), [
      'adapter_config.json',
      'adapter_model.safetensors',
    ]);
  });

test('a run that is stopped before its first step leaves an adapter that changes nothing', async (t) => {
  const folder = temporaryFolder(t);
  const run = await runSmall(folder, {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    control: () => 'stop',
  });
  assert.deepEqual(run.outcome, { kind: 'stopped', step: 0, bestStep: 0 });
  assert(
    readTensors(adapterBytes(folder))
      .get('bigram.weight')!
      .data.every((value) => value === 0),
  );
});

test('cancel writes nothing more, and cannot be taken back', async (t) => {
  const folder = temporaryFolder(t);
  let control: Control = 'run';
  const run = await runSmall(folder, {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    control() {
      const now = control;
      if (control === 'cancel') control = 'run';
      return now;
    },
    onEvent(event) {
      if (event.type === 'step' && event.step === 3) control = 'cancel';
    },
  });
  assert.deepEqual(run.outcome, { kind: 'stopped', step: 3, bestStep: 3 });
  assert.deepEqual(readdirSync(join(folder, 'checkpoints')), []);
  assert(!readdirSync(folder).includes('adapter'));
});

/** The model, with the log-probabilities or the gradient of one call spoilt. */
function spoilt(model: TrainingModel, call: number, what: 'loss' | 'gradient'): TrainingModel {
  let numCalls = 0;
  return {
    ...model,
    async accumulate(batch, weigh, seed) {
      const logprobs = await model.accumulate(batch, weigh, seed);
      if (++numCalls < call) return logprobs;
      if (what === 'gradient') model.parameters[0]!.gradient[5] = NaN;
      return what === 'loss' ? logprobs.map(() => -Infinity) : logprobs;
    },
  };
}

for (const what of ['loss', 'gradient'] as const)
  test(`a ${what} that is not finite fails the run, with the weights of the step before`, async (t) => {
    const folder = temporaryFolder(t);
    const tokenModel = bigramModel(16);
    let lastGood: Float32Array | null = null;
    const run = await runSmall(folder, {
      tokenModel: { ...tokenModel, model: spoilt(tokenModel.model, 5, what) },
      batches: sequenceSource(data, { batchSize: 4 }),
      onEvent(event) {
        if (event.type === 'step') lastGood = tokenModel.model.parameters[0]!.values.slice();
      },
    });
    assert(run.outcome.kind === 'failed');
    assert.deepEqual([run.outcome.step, run.outcome.code], [5, 'non_finite']);
    assert.match(run.outcome.message, /step 5 has loss .*the weights are those of step 4/);
    assert.deepEqual(tokenModel.model.parameters[0]!.values, lastGood);
    assert.deepEqual(readTensors(adapterBytes(folder)).get('bigram.weight')!.data, lastGood);
    assert.deepEqual(
      eventsOf(run, 'diagnosis').map(({ fault }) => fault),
      ['non_finite'],
    );
    assert.equal(eventsOf(run, 'step').length, 4, 'the bad step is no step');
  });

test('a held-out loss that is not finite fails the run, and the adapter left is the one before', async (t) => {
  const folder = temporaryFolder(t);
  const tokenModel = bigramModel(16);
  let numLooks = 0;
  const model: TrainingModel = {
    ...tokenModel.model,
    async logprobs(batch, options) {
      const logprobs = await tokenModel.model.logprobs(batch, options);
      return ++numLooks > 3 ? logprobs.map(() => NaN) : logprobs;
    },
  };
  const run = await runSmall(folder, {
    tokenModel: { ...tokenModel, model },
    batches: sequenceSource(data, { batchSize: 4 }),
    evalBatches: heldOutSource,
  });
  assert(run.outcome.kind === 'failed');
  assert.deepEqual([run.outcome.step, run.outcome.code], [12, 'non_finite']);
  assert.equal(eventsOf(run, 'eval').length, 1);
  const saved = readFileSync(
    join(folder, 'checkpoints', folderName(6), 'adapter', 'adapter_model.safetensors'),
  );
  assert(adapterBytes(folder).equals(saved));
});

test('weights that overflow are never saved: the run fails, though its last loss was finite', async (t) => {
  const folder = temporaryFolder(t);
  const run = await runSmall(folder, {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    options: { maxSteps: 1, learningRate: 1e39 },
  });
  assert(run.outcome.kind === 'failed');
  assert.equal(eventsOf(run, 'diagnosis')[0]!.fault, 'non_finite');
  assert.match(run.outcome.message, /value \d+ of `bigram.weight` is -?Infinity after step 1/);
  assert.deepEqual(readdirSync(join(folder, 'checkpoints')), []);
});

const masked = (sequences: readonly Sequence[]) =>
  sequences.map(({ tokens }) => ({ tokens, labels: tokens.map(() => IGNORED) }));

test('rows without a supervised token are passed over, with nothing divided by 0 and no update', async (t) => {
  const tokenModel = bigramModel(16);
  const tables: Float32Array[] = [];
  const run = await runSmall(temporaryFolder(t), {
    tokenModel,
    batches: sequenceSource([...data.slice(0, 4), ...masked(data.slice(4, 8))], { batchSize: 2, seed: null }),
    options: { epochs: 1, weightDecay: 0.5, schedule: 'constant' },
    onEvent(event) {
      if (event.type === 'step') tables.push(tokenModel.model.parameters[0]!.values.slice());
    },
  });
  assert.equal(run.outcome.kind, 'finished');
  const steps = eventsOf(run, 'step');
  assert.deepEqual(
    steps.map(({ numSupervised }) => numSupervised),
    [18, 18, 0, 0],
  );
  assert.deepEqual([steps[2]!.loss, steps[2]!.gradNorm], [0, 0]);
  assert.notDeepEqual(tables[1], tables[0]);
  assert.deepEqual(tables[3], tables[1], 'neither decay nor momentum moves the weights');
});

test('an epoch without any supervised token fails the run', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(masked(data), { batchSize: 4 }),
  });
  assert(run.outcome.kind === 'failed');
  assert.deepEqual([run.outcome.step, run.outcome.code], [6, 'all_labels_masked']);
});

function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}
