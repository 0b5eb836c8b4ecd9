// The loop over a small exact model: steps and windows, evaluations, early stopping, samples, and which adapter is left.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import { readTensors } from '../helpers/adapter-fixtures.js';
import { batchOf, chains, type Sequence, sequenceSource } from '../helpers/token-data.js';
import { bigramModel, twoLayerModel } from '../helpers/token-models.js';
import { adapterBytes, eventsOf, runSmall, temporaryFolder } from '../helpers/training-runs.js';

const data = chains({ vocabSize: 16, numSequences: 24, length: 10 });
const heldOut = chains({ vocabSize: 16, numSequences: 12, length: 10, seed: 2 });
const heldOutSource = sequenceSource(heldOut, { batchSize: 4, seed: null });

function near(actual: number, expected: number, tolerance: number): void {
  assert(Math.abs(actual - expected) <= tolerance, `${actual}, expected ${expected}`);
}

test('a run learns, and tells of every step', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    options: { epochs: 3 },
  });
  const steps = eventsOf(run, 'step');
  assert.deepEqual(run.outcome, { kind: 'finished', step: 18, bestStep: 18 });
  assert.deepEqual(
    steps.map(({ step }) => step),
    Array.from({ length: 18 }, (_, index) => index + 1),
  );
  const first = steps[0]!;
  near(first.loss, Math.log(16), 1e-6);
  assert.deepEqual(
    [first.totalSteps, first.epoch, first.learningRate, first.numSupervised, first.preference],
    [18, 1 / 6, 0.1, 36, null],
  );
  assert(first.gradNorm > 0 && first.tokensPerSecond > 0 && first.remainingS > 0);
  assert(steps.at(-1)!.loss < 0.8 * first.loss);
  assert.equal(steps.at(-1)!.remainingS, 0);
  assert(steps.every(({ elapsedS }, at) => at === 0 || elapsedS > steps[at - 1]!.elapsedS));
});

test('8 micro-batches of 1 are 1 of 8, in loss, gradient norm and weights', async (t) => {
  // Of unequal lengths, so that a mean of means would be another number.
  const uneven = data.map(({ tokens, labels }, index) => {
    const length = 3 + (index % 7);
    return { tokens: tokens.slice(0, length), labels: labels.slice(0, length) };
  });
  const results = [];
  for (const [batchSize, accumulation] of [
    [8, 1],
    [1, 8],
    [2, 4],
  ] as const) {
    const tokenModel = twoLayerModel(16, { hidden: 6 });
    const run = await runSmall(temporaryFolder(t), {
      tokenModel,
      batches: sequenceSource(uneven, { batchSize }),
      options: { accumulation, learningRate: 0.01 },
    });
    results.push({ steps: eventsOf(run, 'step'), values: tokenModel.model.parameters.map((p) => p.values) });
  }
  const [whole, ...others] = results;
  for (const { steps, values } of others) {
    assert.equal(steps.length, 6);
    for (const [at, { loss, gradNorm }] of steps.entries()) {
      near(loss, whole!.steps[at]!.loss, 1e-5);
      near(gradNorm, whole!.steps[at]!.gradNorm, 1e-5);
    }
    for (const [at, tensor] of values.entries())
      for (const [i, value] of tensor.entries()) near(value, whole!.values[at]![i]!, 1e-4);
  }
});

test('a partial window at the end of an epoch is a step of its own, over its own tokens', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data.slice(0, 5), { batchSize: 1 }),
    options: { accumulation: 2, epochs: 2, learningRate: 1e-9 },
  });
  const steps = eventsOf(run, 'step');
  assert.deepEqual(
    steps.map(({ numSupervised }) => numSupervised),
    [18, 18, 9, 18, 18, 9],
  );
  for (const { loss } of steps) near(loss, Math.log(16), 1e-5);
});

test('the same seed gives the same weights bit for bit, dropout included; another seed others', async (t) => {
  const weights = async (seed: number, dropout: number) => {
    const folder = temporaryFolder(t);
    await runSmall(folder, {
      tokenModel: twoLayerModel(16, { hidden: 6, dropout }),
      batches: sequenceSource(data, { batchSize: 4 }),
      options: { seed },
    });
    return adapterBytes(folder);
  };
  const [once, again, other, without] = [
    await weights(1, 0.3),
    await weights(1, 0.3),
    await weights(2, 0.3),
    await weights(1, 0),
  ];
  assert(once.equals(again));
  assert(!once.equals(other), 'the seed decides what is dropped');
  assert(!once.equals(without));
});

test('every held-out token weighs the same, however rows are batched', async (t) => {
  const uneven = heldOut.map(({ tokens, labels }, index) => ({
    tokens: tokens.slice(0, 2 + (index % 8)),
    labels: labels.slice(0, 2 + (index % 8)),
  }));
  const losses = [];
  for (const batchSize of [1, 5, 12]) {
    const run = await runSmall(temporaryFolder(t), {
      tokenModel: bigramModel(16),
      batches: sequenceSource(data, { batchSize: 4 }),
      evalBatches: sequenceSource(uneven, { batchSize, seed: null }),
      options: { evalSteps: 5 },
    });
    const evals = eventsOf(run, 'eval');
    assert.deepEqual(
      evals.map(({ step }) => step),
      [5, 10, 12],
      'every 5 steps, and the last',
    );
    losses.push(evals.map(({ loss }) => loss));
  }
  for (const other of losses.slice(1))
    for (const [at, loss] of other.entries()) near(loss, losses[0]![at]!, 1e-5);
});

/** Few rows, learned by heart: the held-out loss falls and then rises. */
const byHeart = {
  batches: sequenceSource(chains({ vocabSize: 32, numSequences: 12, length: 12, order: 0.6 }), {
    batchSize: 4,
  }),
  evalBatches: sequenceSource(chains({ vocabSize: 32, numSequences: 32, length: 12, order: 0.6, seed: 2 }), {
    batchSize: 16,
    seed: null,
  }),
};

test('early stopping ends the run after its patience, and the adapter left is the best', async (t) => {
  const folder = temporaryFolder(t);
  const tokenModel = bigramModel(32);
  const tables = new Map<number, Float32Array>();
  const run = await runSmall(folder, {
    tokenModel,
    ...byHeart,
    options: { epochs: 40, learningRate: 0.2, earlyStoppingPatience: 3, keepCheckpoints: 1 },
    onEvent(event) {
      if (event.type === 'step') tables.set(event.step, tokenModel.model.parameters[0]!.values.slice());
    },
  });
  const evals = eventsOf(run, 'eval');
  const best = evals.reduce((least, event) => (event.loss < least.loss ? event : least));
  assert.deepEqual(run.outcome, { kind: 'early_stopped', step: best.step + 9, bestStep: best.step });
  assert.deepEqual(
    evals.map(({ isBest }) => isBest),
    evals.map(({ step }) => step <= best.step),
  );
  assert.deepEqual(readTensors(adapterBytes(folder)).get('bigram.weight')!.data, tables.get(best.step));
  const kept = readdirSync(join(folder, 'checkpoints')).toSorted();
  assert.deepEqual(kept, [best.step, best.step + 9].map(folderName), 'the best and the newest are kept');
});

test('without patience the run goes on to its end, and still leaves the best', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(32),
    ...byHeart,
    options: { epochs: 10, learningRate: 0.2, earlyStoppingPatience: null },
  });
  assert(run.outcome.kind === 'finished');
  assert.equal(run.outcome.step, 30);
  assert(run.outcome.bestStep < 30);
});

test('max steps ends the run earlier, and the schedule with it', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    options: { maxSteps: 4, schedule: 'linear' },
  });
  assert.equal(run.outcome.step, 4);
  const rates = eventsOf(run, 'step').map(({ learningRate }) => learningRate);
  for (const [at, expected] of [0.1, 0.075, 0.05, 0.025].entries()) near(rates[at]!, expected, 1e-12);
});

const masked = (sequences: readonly Sequence[]) =>
  sequences.map(({ tokens }) => ({ tokens, labels: tokens.map(() => IGNORED) }));

test('held-out rows without a supervised token are told of, and are no evaluation', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    evalBatches: sequenceSource(masked(heldOut), { batchSize: 4 }),
    options: { epochs: 1 },
  });
  assert.equal(run.outcome.kind, 'finished');
  assert.deepEqual(eventsOf(run, 'eval'), []);
  assert.match(eventsOf(run, 'message')[0]!.message, /no held-out row has a supervised token/);
});

test('samples come with the adapter as it is; a sampler that fails is a warning', async (t) => {
  const seen: number[] = [];
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: sequenceSource(data, { batchSize: 4 }),
    options: { sampleSteps: 4 },
    sample(step, files) {
      if (step === 8) return Promise.reject(new Error('nobody answers'));
      seen.push(readTensors(files.get('adapter_model.safetensors')!).get('bigram.weight')!.data[40]!);
      return Promise.resolve([{ prompt: 'p', text: `after ${step}` }]);
    },
  });
  assert.deepEqual(
    eventsOf(run, 'sample').map(({ step, samples }) => [step, samples[0]!.text]),
    [
      [4, 'after 4'],
      [12, 'after 12'],
    ],
  );
  assert.match(eventsOf(run, 'message')[0]!.message, /no samples of step 8: Error: nobody answers/);
  assert.notEqual(seen[0], seen[1]);
  assert.equal(run.outcome.kind, 'finished');
});

test('a preference run begins at ln 2 and learns to prefer', async (t) => {
  // Chosen: each token's own successor; rejected: the same answer with any successors.
  const good = chains({ vocabSize: 16, numSequences: 24, length: 8, order: 1 });
  const bad = chains({ vocabSize: 16, numSequences: 24, length: 8, order: 0 });
  const pairs = good.flatMap((chosen, index) => [chosen, bad[index]!]);
  const source = {
    numMicroBatches: 6,
    fingerprint: 'pairs',
    microBatch: (_: number, index: number) => batchOf(pairs.slice(index * 8, (index + 1) * 8)),
  };
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: source,
    evalBatches: source,
    options: {
      stage: 'dpo',
      epochs: 5,
      learningRate: 0.2,
      dpo: { beta: 0.5, loss: 'sigmoid', labelSmoothing: 0 },
    },
  });
  const steps = eventsOf(run, 'step');
  near(steps[0]!.loss, Math.LN2, 1e-6);
  assert.deepEqual(steps[0]!.preference, {
    rewardsChosen: 0,
    rewardsRejected: 0,
    rewardsMargins: 0,
    rewardsAccuracies: 0,
  });
  const last = eventsOf(run, 'eval').at(-1)!;
  assert(last.loss < 0.2);
  const { rewardsChosen, rewardsRejected, rewardsMargins, rewardsAccuracies } = last.preference!;
  assert(rewardsChosen > 0 && rewardsRejected < 0);
  near(rewardsMargins, rewardsChosen - rewardsRejected, 1e-9);
  assert.equal(rewardsAccuracies, 1);
  assert.deepEqual(eventsOf(run, 'diagnosis'), []);
});

test('held-out rows are looked at without dropout', async (t) => {
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: twoLayerModel(16, { hidden: 6, dropout: 0.5 }),
    batches: sequenceSource(data, { batchSize: 4 }),
    evalBatches: heldOutSource,
    options: { learningRate: 1e-12, evalSteps: 3 },
  });
  const losses = eventsOf(run, 'eval').map(({ loss }) => loss);
  for (const loss of losses) near(loss, losses[0]!, 1e-6);
});

function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}
