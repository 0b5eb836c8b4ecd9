// Each fault, found in a run that really has it; and healthy runs of many kinds, in which nothing is found.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import type { DiagnosisEvent } from '../../src/train/events.js';
import { diagnose } from '../../src/train/monitor/diagnosis.js';
import { EMPTY_HISTORY, type Observation } from '../../src/train/monitor/run-history.js';
import type { Control } from '../../src/train/run-types.js';
import { batchOf, chains, END, type Sequence, sequenceSource } from '../helpers/token-data.js';
import { bigramModel, twoLayerModel, unigramModel } from '../helpers/token-models.js';
import {
  eventsOf,
  runSmall,
  type RunParts,
  smallOptions,
  temporaryFolder,
} from '../helpers/training-runs.js';

const data = (seed: number, numSequences = 64) => chains({ vocabSize: 16, numSequences, length: 12, seed });
const heldOut = (seed: number) => sequenceSource(data(seed + 1000, 32), { batchSize: 8, seed: null });

async function findings(t: TestContext, parts: RunParts): Promise<readonly DiagnosisEvent[]> {
  return eventsOf(await runSmall(temporaryFolder(t), parts), 'diagnosis');
}

const HEALTHY: Readonly<Record<string, (seed: number) => RunParts>> = {
  'a bigram table': (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed), { batchSize: 4, seed }),
    evalBatches: heldOut(seed),
    options: { epochs: 4, learningRate: 0.1, warmupRatio: 0.05 },
  }),
  'one example a step, so noise': (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed, 200), { batchSize: 1, seed }),
    evalBatches: heldOut(seed),
    options: { epochs: 1, learningRate: 0.05, warmupRatio: 0.03, evalSteps: 50 },
  }),
  'two layers with dropout': (seed) => ({
    tokenModel: twoLayerModel(16, { hidden: 16, seed, dropout: 0.1 }),
    batches: sequenceSource(data(seed, 96), { batchSize: 4, seed }),
    evalBatches: heldOut(seed),
    options: { epochs: 4, learningRate: 0.03, warmupRatio: 0.05 },
  }),
  'a constant rate and no warm-up': (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed, 128), { batchSize: 8, seed }),
    options: { epochs: 4, learningRate: 0.1, schedule: 'constant' },
  }),
  'a few steps': (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed, 20), { batchSize: 4, seed }),
    evalBatches: heldOut(seed),
    options: { epochs: 2, learningRate: 0.2 },
  }),
};

for (const [name, make] of Object.entries(HEALTHY))
  test(`healthy: ${name}`, async (t) => {
    for (const seed of [1, 2, 3, 4]) assert.deepEqual(await findings(t, make(seed)), [], `seed ${seed}`);
  });

/** Finds the fault with every seed, and nothing but it and `others`. */
function finds(
  fault: string,
  message: RegExp,
  prescription: RegExp,
  make: (seed: number) => RunParts,
  others: readonly string[] = [],
): void {
  test(`${fault}: ${message.source}`, async (t) => {
    for (const seed of [1, 2, 3]) {
      const found = await findings(t, make(seed));
      const event = found.find((each) => each.fault === fault);
      assert(
        event !== undefined,
        `seed ${seed}: found ${found.map((each) => each.fault).join(', ') || 'nothing'}`,
      );
      assert.match(event.message, message);
      assert.match(event.prescription, prescription);
      const rest = found.map((each) => each.fault).filter((each) => each !== fault && !others.includes(each));
      assert.deepEqual(rest, [], `seed ${seed}`);
    }
  });
}

finds(
  'overfitting',
  /held-out rows was 2\.\d+ at step \d+ and has risen to .*training loss fell/,
  /best checkpoint; then fewer epochs than 12, .*a rank below 16/,
  (seed) => ({
    tokenModel: bigramModel(32),
    batches: sequenceSource(chains({ vocabSize: 32, numSequences: 12, length: 12, order: 0.6, seed }), {
      batchSize: 4,
    }),
    evalBatches: sequenceSource(
      chains({ vocabSize: 32, numSequences: 64, length: 12, order: 0.6, seed: seed + 1000 }),
      { batchSize: 16, seed: null },
    ),
    options: { epochs: 12, learningRate: 0.2 },
  }),
);

finds(
  'underfitting',
  /came from 3\.\d+ to 2\.\d+ and stays there/,
  /more of the model must be trained.*a rank above 16/,
  (seed) => ({
    // A bias alone cannot learn what follows what.
    tokenModel: unigramModel(32),
    batches: sequenceSource(chains({ vocabSize: 32, numSequences: 64, length: 12, order: 0.95, seed }), {
      batchSize: 4,
      seed,
    }),
    options: { epochs: 6 },
  }),
);

finds(
  'oscillation',
  /the loss swings by 0\.\d+ from step to step/,
  /learningRate from 4 to 2, or .*accumulation from 1 to 4/,
  (seed) => ({
    // The same rows at every step, and steps of a fixed size without momentum: they jump over the minimum and back.
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed), { batchSize: 64, seed }),
    options: {
      epochs: 40,
      learningRate: 4,
      warmupRatio: 0.1,
      schedule: 'constant',
      betas: [0, 0.1],
      maxGradNorm: 0,
    },
  }),
  ['eos_not_learned'],
);

const tooFast = (seed: number): RunParts => ({
  tokenModel: twoLayerModel(16, { hidden: 16, seed }),
  batches: sequenceSource(data(seed), { batchSize: 4, seed }),
  options: { epochs: 4, learningRate: 3, warmupRatio: 0.05, maxGradNorm: 0, schedule: 'constant' },
});
finds('divergence', /began at 2\.\d+ and is \d+/, /learningRate from 3 to 1, a warmupRatio/, tooFast, [
  'learning_rate_high',
  'eos_not_learned',
  'oscillation',
]);

test('divergence: a run that goes well at first is told of against its best', () => {
  // A schedule cannot do this to a sound model; a loss that comes down and explodes is what is meant.
  const losses = Array.from({ length: 60 }, (_, at) => (at < 40 ? 3 - at * 0.06 : 2.4 + (at % 3) * 0.1));
  const found = observeAll(losses.map((loss, at) => stepEvent(at + 1, 60, { loss })));
  assert.deepEqual(
    found.map(({ fault, step }) => [fault, step > 40]),
    [['divergence', true]],
  );
  assert.match(found[0]!.message, /had come down to 0\.\d+ and is/);
});

finds(
  'learning_rate_high',
  /began at 2\.77\d and is higher, \d/,
  /learningRate from 5 to 1\.667/,
  (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed), { batchSize: 1, seed }),
    options: { epochs: 2, learningRate: 5, warmupRatio: 0.1, schedule: 'constant' },
  }),
  ['divergence', 'oscillation', 'eos_not_learned'],
);

finds(
  'learning_rate_low',
  /over 64 steps the loss came from 2\.77\d to 2\.7\d+, [45]\d % of that in the second half/,
  /learningRate from 0\.0001 to 0\.0005/,
  (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed), { batchSize: 4, seed }),
    evalBatches: heldOut(seed),
    options: { epochs: 4, learningRate: 1e-4 },
  }),
);

finds(
  'non_finite',
  /step 2 has loss Infinity and gradient norm/,
  /last checkpoint with learningRate from 3e\+38/,
  (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(data(seed), { batchSize: 4, seed }),
    options: { learningRate: 3e38 },
  }),
);

finds(
  'vanishing_gradients',
  /gradient norm has been below 1e-7 for \d+ steps/,
  /an initialization that is not saturated/,
  (seed) => ({
    // Units so far from 0 that tanh is flat, below a head that stays as it is.
    tokenModel: twoLayerModel(16, { hidden: 16, seed, isSaturated: true, freezesHead: true }),
    batches: sequenceSource(data(seed), { batchSize: 4, seed }),
    options: { epochs: 4, learningRate: 0.01 },
  }),
);

const relabelled = (sequences: readonly Sequence[], keeps: (label: number) => boolean) =>
  sequences.map(({ tokens, labels }) => ({
    tokens,
    labels: labels.map((label) => (keeps(label) ? label : IGNORED)),
  }));

finds(
  'all_labels_masked',
  /3 of 3 steps had no supervised token/,
  /assistant's answer with weight 1/,
  (seed) => ({
    tokenModel: bigramModel(16),
    batches: sequenceSource(
      relabelled(data(seed), () => false),
      { batchSize: 4, seed },
    ),
  }),
);

finds(
  'eos_not_learned',
  /none of 16 answers so far ends with a supervised end token/,
  /never by it/,
  (seed) => ({
    // What padding with the end token does.
    tokenModel: bigramModel(16),
    batches: sequenceSource(
      relabelled(data(seed), (label) => label !== END),
      { batchSize: 4, seed },
    ),
    options: { epochs: 4 },
  }),
);

finds(
  'eos_not_learned',
  /at the end of answers the loss is \d+\.\d+, [12]\.\d+ over all tokens/,
  /chat template ends an answer with the end token/,
  (seed) => {
    // A base that never saw this end token: it has a long way to go, and the run is short.
    const tokenModel = bigramModel(16);
    const [table] = tokenModel.model.parameters;
    for (let token = 0; token < 16; token++) table!.values[token * 16 + END] = -12;
    return {
      tokenModel,
      batches: sequenceSource(data(seed), { batchSize: 4, seed }),
      options: { epochs: 4 },
    };
  },
);

test('a pretraining run is not asked for ends', async (t) => {
  const found = await findings(t, {
    tokenModel: bigramModel(16),
    batches: sequenceSource(
      relabelled(data(1), (label) => label !== END),
      { batchSize: 4 },
    ),
    options: { epochs: 4, stage: 'pt' },
  });
  assert.deepEqual(found, []);
});

test('a preference run that learns has no fault, one that stands still has too low a rate', async (t) => {
  const good = chains({ vocabSize: 16, numSequences: 24, length: 8, order: 1 });
  const bad = chains({ vocabSize: 16, numSequences: 24, length: 8, order: 0 });
  const pairs = good.flatMap((chosen, index) => [chosen, bad[index]!]);
  const parts = (learningRate: number): RunParts => ({
    tokenModel: bigramModel(16),
    batches: {
      numMicroBatches: 6,
      fingerprint: 'pairs',
      microBatch: (_, index) => batchOf(pairs.slice(index * 8, (index + 1) * 8)),
    },
    options: { stage: 'dpo', epochs: 6, learningRate },
  });
  assert.deepEqual(await findings(t, parts(0.2)), []);
  const faults = (await findings(t, parts(1e-5))).map(({ fault }) => fault);
  assert.deepEqual(faults, ['learning_rate_low']);
});

test('a fault is told once, also when the run is broken off and gone on with', async (t) => {
  const folder = temporaryFolder(t);
  let control: Control = 'run';
  const parts = (): RunParts => ({ ...tooFast(1), control: () => control });
  const first = await runSmall(folder, {
    ...parts(),
    onEvent(event) {
      if (event.type === 'diagnosis' && event.fault === 'divergence') control = 'pause';
    },
  });
  assert(eventsOf(first, 'diagnosis').some(({ fault }) => fault === 'divergence'));
  control = 'run';
  const second = await runSmall(folder, parts());
  assert.equal(second.outcome.kind, 'finished');
  assert(!eventsOf(second, 'diagnosis').some(({ fault }) => fault === 'divergence'));
});

test('what is remembered does not grow with the run', () => {
  const size = (numSteps: number) => {
    let history = EMPTY_HISTORY;
    for (let step = 1; step <= numSteps; step++) {
      ({ history } = diagnose(history, stepEvent(step, numSteps, { loss: 2 / step + 1 }), smallOptions()));
      const seen = {
        type: 'eval',
        step,
        epoch: 1,
        loss: 2 / step + 1,
        isBest: true,
        preference: null,
      } as const;
      if (step % 3 === 0) ({ history } = diagnose(history, seen, smallOptions()));
    }
    assert.deepEqual(JSON.parse(JSON.stringify(history)), history, 'plain JSON');
    return JSON.stringify(history).length;
  };
  assert(size(4000) < 1.5 * size(400));
});

function stepEvent(step: number, totalSteps: number, { loss }: { loss: number }) {
  return {
    ...{ type: 'step' as const, step, totalSteps, epoch: 1, loss, learningRate: 1e-3, gradNorm: 1 },
    ...{ numSupervised: 9, tokensPerSecond: 1, elapsedS: step, remainingS: 1, preference: null },
  };
}

function observeAll(seen: readonly Observation[]) {
  let history = EMPTY_HISTORY;
  return seen.flatMap((each) => {
    const after = diagnose(history, each, smallOptions());
    ({ history } = after);
    return after.findings.map((finding) => ({ ...finding, step: history.step }));
  });
}
