// Objectives: values worked out by hand, the reference's DPO example, and gradients against central differences.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import type { PreferenceLoss } from '../../src/train/options.js';
import { createObjective } from '../../src/train/objective.js';
import { meanRewards, pairLoss, sumRewards } from '../../src/train/preference-loss.js';
import { supervisedSegments } from '../../src/train/supervision.js';
import type { TrainingModel } from '../../src/train/types.js';
import { batchOf, chains } from '../helpers/token-data.js';
import { readReference } from '../helpers/train-fixtures.js';
import { twoLayerModel } from '../helpers/token-models.js';

const dpo = { beta: 0.1, loss: 'sigmoid', labelSmoothing: 0 } as const;

function near(actual: number, expected: number, tolerance = 1e-9): void {
  assert(Math.abs(actual - expected) <= tolerance, `${actual}, expected ${expected}`);
}

const answer = (policy: number, reference: number, numTokens = 1) => ({ policy, reference, numTokens });

test("the reference's pair: loss, rewards and margin", () => {
  const reference = readReference('dpo.json') as Record<string, number>;
  const pair = pairLoss(
    answer(reference['policy_chosen_logp']!, reference['ref_chosen_logp']!, 8),
    answer(reference['policy_rejected_logp']!, reference['ref_rejected_logp']!, 5),
    dpo,
  );
  near(pair.loss, reference['loss']!, 1e-6);
  near(pair.rewardChosen, reference['reward_chosen']!, 1e-6);
  near(pair.rewardRejected, reference['reward_rejected']!, 1e-6);
  const metrics = meanRewards(sumRewards([pair]), 1);
  near(metrics.rewardsMargins, reference['margin']!, 1e-6);
  assert.equal(metrics.rewardsAccuracies, 0);
});

test('where the policy is the reference, sigmoid is ln 2, hinge 1, and ipo (1 / 2 beta)^2', () => {
  const at = (loss: PreferenceLoss) => pairLoss(answer(-3, -3), answer(-5, -5), { ...dpo, loss }).loss;
  near(at('sigmoid'), Math.LN2);
  near(at('hinge'), 1);
  near(at('ipo'), 25);
});

test('hinge is flat beyond its margin', () => {
  const beyond = pairLoss(answer(8, 0), answer(-4, 0), { ...dpo, loss: 'hinge' });
  assert.deepEqual([beyond.loss, beyond.chosenWeight], [0, 0]);
  const within = pairLoss(answer(2, 0), answer(-4, 0), { ...dpo, loss: 'hinge' });
  near(within.loss, 0.4);
  near(within.chosenWeight, -0.1);
  near(within.rejectedWeight, 0.1);
});

test('ipo averages each answer over its own tokens; rewards stay sums', () => {
  const pair = pairLoss(answer(-4, -8, 2), answer(-6, -3, 3), { ...dpo, loss: 'ipo' });
  // h = 4 / 2 - (-3 / 3) = 3; (3 - 5)^2
  near(pair.loss, 4);
  near(pair.chosenWeight, -4 / 2);
  near(pair.rejectedWeight, 4 / 3);
  near(pair.rewardChosen, 0.4);
});

test('label smoothing mixes in the loss of the labels exchanged', () => {
  const [chosen, rejected] = [answer(2, 1), answer(-1, 0)];
  const plain = pairLoss(chosen, rejected, dpo).loss;
  const exchanged = pairLoss(rejected, chosen, dpo).loss;
  near(pairLoss(chosen, rejected, { ...dpo, labelSmoothing: 0.2 }).loss, 0.8 * plain + 0.2 * exchanged);
});

test('label smoothing is refused where the loss has none', () => {
  assert.throws(
    () => createObjective({ stage: 'dpo', dpo: { beta: 0.1, loss: 'ipo', labelSmoothing: 0.1 } }),
    { code: 'invalid_value', param: 'dpo.labelSmoothing' },
  );
});

test('weights are the derivatives of the loss', () => {
  const step = 1e-5;
  for (const loss of ['sigmoid', 'hinge', 'ipo'] as const)
    for (const labelSmoothing of loss === 'sigmoid' ? [0, 0.1] : [0]) {
      const options = { beta: 0.3, loss, labelSmoothing };
      const at = (chosen: number, rejected: number) =>
        pairLoss(answer(chosen, -9.5, 4), answer(rejected, -7, 3), options);
      const { chosenWeight, rejectedWeight } = at(-9, -8);
      near(chosenWeight, (at(-9 + step, -8).loss - at(-9 - step, -8).loss) / (2 * step), 1e-6);
      near(rejectedWeight, (at(-9, -8 + step).loss - at(-9, -8 - step).loss) / (2 * step), 1e-6);
    }
});

test('very sure pairs overflow nowhere', () => {
  near(pairLoss(answer(1e6, 0), answer(-1e6, 0), dpo).loss, 0);
  const wrong = pairLoss(answer(-1e6, 0), answer(1e6, 0), dpo);
  near(wrong.loss, 2e5);
  near(wrong.chosenWeight, -0.1);
});

test('segments are counted by row, then number, with those that have no supervised token', () => {
  const batch = {
    numRows: 2,
    numTokens: 5,
    tokens: Int32Array.from([5, 6, 5, 7, 0, 5, 8, 5, 9, 9]),
    labels: Int32Array.from([IGNORED, 6, IGNORED, 7, IGNORED, IGNORED, IGNORED, IGNORED, 9, 9]),
    segments: Int32Array.from([1, 1, 2, 2, 0, 1, 1, 2, 2, 2]),
    positions: Int32Array.from([0, 1, 0, 1, 0, 0, 1, 0, 1, 2]),
  };
  const { numSegments, segmentOf } = supervisedSegments(batch);
  assert.equal(numSegments, 4);
  assert.deepEqual([...segmentOf], [0, 1, 3, 3]);
});

const sequences = chains({ vocabSize: 8, numSequences: 4, length: 6, order: 0.5 });

test('supervised: the loss is the sum of -log p, weighed by the tokens of the whole window', async () => {
  const { model } = twoLayerModel(8, { hidden: 3 });
  const objective = createObjective({ stage: 'sft', dpo });
  const batch = batchOf(sequences.slice(0, 2));
  assert.equal(objective.countUnits(batch), 10);
  const seen: Float32Array[] = [];
  const watching: TrainingModel = {
    ...model,
    accumulate(given, weigh, seed) {
      const recording = (logprobs: Float32Array) => {
        seen.push(weigh(logprobs));
        return seen.at(-1)!;
      };
      return model.accumulate(given, recording, seed);
    },
  };
  const { lossSum, numUnits } = await objective.accumulate(watching, batch, 40, null);
  const logprobs = await model.logprobs(batch);
  near(
    lossSum,
    logprobs.reduce((sum, value) => sum - value, 0),
    1e-5,
  );
  assert.equal(numUnits, 10);
  assert.deepEqual(
    [...seen[0]!],
    Array.from({ length: 10 }, () => Math.fround(-1 / 40)),
  );
});

for (const stage of ['sft', 'dpo'] as const)
  for (const loss of stage === 'sft' ? (['sigmoid'] as const) : (['sigmoid', 'hinge', 'ipo'] as const))
    test(`${stage} ${loss}: the gradient is that of the mean loss, by central differences`, async () => {
      const { model } = twoLayerModel(8, { hidden: 3, seed: 4 });
      // Away from the reference, so that the two log-probabilities differ.
      for (const { values } of model.parameters)
        for (const i of values.keys()) values[i]! += 0.2 * Math.sin(i);
      const objective = createObjective({ stage, dpo: { beta: 0.5, loss, labelSmoothing: 0 } });
      const batch = batchOf(sequences);
      const units = objective.countUnits(batch);
      await objective.accumulate(model, batch, units, null);
      const mean = async () => (await objective.evaluate(model, batch)).lossSum / units;
      for (const { name, values, gradient } of model.parameters)
        for (const i of [0, 5, 11, values.length - 1]) {
          const value = values[i]!;
          values[i] = value + 2 ** -6;
          const above = await mean();
          values[i] = value - 2 ** -6;
          const below = await mean();
          values[i] = value;
          const expected = (above - below) / 2 ** -5;
          assert(Math.abs(gradient[i]! - expected) < 2e-3 * (1 + Math.abs(expected)), `${name}[${i}]`);
        }
    });

test('preference: a batch whose labels are all masked has nothing to learn', () => {
  const objective = createObjective({ stage: 'dpo', dpo });
  const masked = sequences.map(({ tokens }) => ({ tokens, labels: tokens.map(() => IGNORED) }));
  assert.equal(objective.countUnits(batchOf(masked)), 0);
  assert.equal(objective.countUnits(batchOf(sequences)), 2);
});
