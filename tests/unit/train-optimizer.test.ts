// AdamW, clipping and schedules: numbers worked out by hand, and the reference run's learning rates.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { initialAdamWState, updateAdamW } from '../../src/train/adamw.js';
import { isExhausted, NOTHING_EVALUATED, recordEvaluation } from '../../src/train/early-stopping.js';
import { clipGradients, gradientNorm } from '../../src/train/gradient-clip.js';
import { createParameter } from '../../src/train/parameters.js';
import { isDue, planRun, windowAt } from '../../src/train/run-plan.js';
import { learningRateAt, warmupSteps } from '../../src/train/schedule.js';
import { readReference } from '../helpers/train-fixtures.js';

const options = { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 } as const;

function near(actual: number, expected: number, tolerance = 1e-6): void {
  assert(Math.abs(actual - expected) <= tolerance, `${actual}, expected ${expected}`);
}

function parameter(
  value: number,
  gradient: number,
  extra: { decay?: boolean; learningRateScale?: number } = {},
) {
  const made = createParameter('p', [1], Float32Array.of(value), extra);
  made.gradient[0] = gradient;
  return made;
}

test('the first update goes one learning rate against the sign of the gradient, whatever its size', () => {
  for (const gradient of [1e-3, 0.5, 100]) {
    const p = parameter(1, gradient);
    updateAdamW([p], initialAdamWState([p]), options, 0.1);
    near(p.values[0]!, 0.9, 2e-6);
  }
});

test('three updates by hand', () => {
  const p = parameter(1, 0.5);
  const state = initialAdamWState([p]);
  updateAdamW([p], state, options, 0.1);
  p.gradient[0] = -0.2;
  updateAdamW([p], state, options, 0.1);
  // m = 0.9 * 0.05 - 0.02 = 0.025, v = 0.999 * 0.00025 + 0.00004 = 0.00028975
  near(state.firstMoments[0]![0]!, 0.025);
  near(state.secondMoments[0]![0]!, 0.00028975, 1e-9);
  // (0.025 / 0.19) / sqrt(0.00028975 / 0.001999) = 0.1315789 / 0.3807175 = 0.3456078
  near(p.values[0]!, 0.9 - 0.03456078);
  p.gradient[0] = 0;
  updateAdamW([p], state, options, 0.1);
  // m = 0.0225, v = 0.00028946025; (0.0225 / 0.271) / sqrt(0.00028946025 / 0.002997001) = 0.0830258 / 0.3107775
  near(p.values[0]!, 0.86543922 - 0.02671551);
  assert.equal(state.numUpdates, 3);
});

test('decay is decoupled: it takes lr * decay of the value, apart from the gradient, and only where it applies', () => {
  const decaying = { ...options, weightDecay: 0.1 };
  const [p, q] = [parameter(1, 0.5), parameter(1, 0.5, { decay: false })];
  updateAdamW([p, q], initialAdamWState([p, q]), decaying, 0.1);
  near(p.values[0]!, 1 - 0.01 - 0.1);
  near(q.values[0]!, 0.9);
  const idle = parameter(2, 0);
  updateAdamW([idle], initialAdamWState([idle]), decaying, 0.1);
  near(idle.values[0]!, 1.98);
});

test('a parameter has its own multiple of the learning rate, for decay too', () => {
  const p = parameter(1, 0.5, { learningRateScale: 4 });
  updateAdamW([p], initialAdamWState([p]), { ...options, weightDecay: 0.1 }, 0.1);
  near(p.values[0]!, 1 - 0.04 - 0.4);
});

test('the norm is over all gradients together, and clipping scales them to it', () => {
  const [p, q] = [parameter(0, 3), parameter(0, 4)];
  assert.equal(gradientNorm([p, q]), 5);
  clipGradients([p, q], 5, 1);
  near(p.gradient[0]!, 3 / 5.000001, 1e-7);
  near(q.gradient[0]!, 4 / 5.000001, 1e-7);
  const before = [p.gradient[0], q.gradient[0]];
  clipGradients([p, q], gradientNorm([p, q]), 2);
  assert.deepEqual([p.gradient[0], q.gradient[0]], before, 'within the norm nothing changes');
  clipGradients([p, q], 1, 0);
  assert.deepEqual([p.gradient[0], q.gradient[0]], before, '0 is no clipping');
});

test('a gradient that is not finite has no finite norm', () => {
  assert.equal(gradientNorm([parameter(0, Infinity)]), Infinity);
  assert(Number.isNaN(gradientNorm([parameter(0, 1), parameter(0, NaN)])));
});

test('learning rates of the reference run: cosine, 2 of 5 steps warm-up, the first is 0', () => {
  const reference = readReference('lora-sft.json') as { runs: { tokens: { steps: { lr: number }[] } } };
  const schedule = { schedule: 'cosine', learningRate: 1e-3, warmupSteps: 2, totalSteps: 5 } as const;
  for (const [index, { lr }] of reference.runs.tokens.steps.entries())
    near(learningRateAt(index, schedule), lr, 1e-15);
});

test('linear goes to 0 after the last step, constant stays, and both warm up', () => {
  const rates = (schedule: 'linear' | 'constant', warmup: number) =>
    Array.from({ length: 4 }, (_, index) =>
      learningRateAt(index, { schedule, learningRate: 1, warmupSteps: warmup, totalSteps: 4 }),
    );
  assert.deepEqual(rates('linear', 0), [1, 0.75, 0.5, 0.25]);
  assert.deepEqual(rates('linear', 2), [0, 0.5, 1, 0.5]);
  assert.deepEqual(rates('constant', 2), [0, 0.5, 1, 1]);
  assert.deepEqual(rates('constant', 0), [1, 1, 1, 1]);
});

test('warm-up steps are rounded up', () => {
  assert.deepEqual([warmupSteps(100, 0.03), warmupSteps(10, 0.03), warmupSteps(10, 0)], [3, 1, 0]);
});

test('the last step of an epoch takes what is left, and the next epoch begins anew', () => {
  const plan = planRun(5, { accumulation: 2, epochs: 2, maxSteps: null });
  assert.deepEqual(plan, { stepsPerEpoch: 3, totalSteps: 6 });
  const windows = Array.from({ length: 4 }, (_, step) => windowAt(step, plan, 5, 2));
  assert.deepEqual(windows, [
    { epoch: 0, start: 0, end: 2 },
    { epoch: 0, start: 2, end: 4 },
    { epoch: 0, start: 4, end: 5 },
    { epoch: 1, start: 0, end: 2 },
  ]);
  assert.equal(planRun(5, { accumulation: 2, epochs: 2, maxSteps: 4 }).totalSteps, 4);
  assert.equal(planRun(4, { accumulation: 1, epochs: 0.5, maxSteps: null }).totalSteps, 2);
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].filter((step) => isDue(step, null, plan)),
    [3, 6],
  );
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].filter((step) => isDue(step, 4, plan)),
    [4, 6],
  );
});

test('early stopping counts the evaluations since the best one; an equal loss is not better', () => {
  let state = NOTHING_EVALUATED;
  const seen = [2, 1, 1, 1.5].map((loss, index) => {
    state = recordEvaluation(state, index + 1, loss);
    return isExhausted(state, 2);
  });
  assert.deepEqual(seen, [false, false, false, true]);
  assert.deepEqual(state, { bestLoss: 1, bestStep: 2, numWorse: 2 });
  assert.equal(isExhausted(state, null), false);
  assert.deepEqual(recordEvaluation(state, 5, 0.9), { bestLoss: 0.9, bestStep: 5, numWorse: 0 });
});
