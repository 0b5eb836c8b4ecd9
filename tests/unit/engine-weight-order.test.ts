// The radix sort of weights against a sort that compares, and the sampler over a whole vocabulary against one that sorts objects.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { sampleToken } from '../../src/engine/sampler.js';
import type { SamplingParams } from '../../src/engine/types.js';
import { orderByWeight } from '../../src/engine/weight-order.js';
import { GREEDY } from '../helpers/tiny-model.js';

const VOCABULARY = 49_152;

const WEIGHTS: Readonly<Record<string, (random: () => number) => number>> = {
  'of any size': (random) => Math.exp(-30 * random()),
  'all equal': () => 1,
  'of few values': (random) => Math.floor(random() * 4) / 4,
  'that differ in their last bits': (random) => 1 - Math.floor(random() * 1000) * 2 ** -53,
  'with the least of numbers': (random) => Math.floor(random() * 1000) * Number.MIN_VALUE,
};

for (const [what, weight] of Object.entries(WEIGHTS))
  test(`weights ${what} come heaviest first, equal ones by token`, () => {
    for (const length of [1, 2, 1023, 1024, 20_000]) {
      const random = randomStream(length);
      const weights = Float64Array.from({ length: 2 * length }, () => weight(random));
      const tokens = Int32Array.from({ length }, (_, i) => 2 * i + 1);
      const expected = Array.from(tokens).sort((a, b) => weights[b]! - weights[a]! || a - b);
      assert.deepEqual(Array.from(orderByWeight(tokens, weights)), expected);
      assert(
        tokens.every((token, i) => token === 2 * i + 1),
        'the input stays',
      );
    }
  });

/** The same cuts and sums as the sampler's, over sorted objects. */
function plainSample(logits: Float32Array, params: SamplingParams, coin: number): number {
  const { temperature, topK, topP, minP } = params;
  const max = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
  const all = Array.from(logits, (logit, token) => ({
    token,
    weight: Math.exp((logit - max) / temperature),
  }));
  const mass = (items: typeof all): number => items.reduce((sum, { weight }) => sum + weight, 0);
  const fine = all.filter(({ weight }) => weight >= minP);
  let kept: typeof all = [];
  for (let cut = 1e-3, isEnough = false; !isEnough; cut = cut < 1e-12 ? 0 : cut * 1e-3) {
    kept = fine.filter(({ weight }) => weight > cut);
    isEnough = cut === 0 || (topK > 0 ? kept.length >= topK : mass(kept) >= topP * mass(fine));
  }
  kept.sort((a, b) => b.weight - a.weight || a.token - b.token);
  if (topK > 0) kept = kept.slice(0, topK);
  if (topP < 1) {
    const target = topP * (topK > 0 ? mass(kept) : mass(fine));
    let sum = 0;
    const last = kept.findIndex(({ weight }) => (sum += weight) >= target);
    if (last !== -1) kept = kept.slice(0, last + 1);
  }
  let target = coin * mass(kept);
  return (kept.find(({ weight }) => (target -= weight) < 0) ?? kept.at(-1)!).token;
}

test('over a whole vocabulary the token is the one that plain sorting draws', () => {
  const random = randomStream(7);
  const settings: readonly Partial<SamplingParams>[] = [
    { topP: 0.95 },
    { topP: 0.3, temperature: 0.7 },
    { topP: 0.999, temperature: 2 },
    { topK: 40 },
    { topK: 5000, topP: 0.9 },
    { topP: 0.9, minP: 0.2 },
    { topK: 45_000, topP: 0.99, minP: 0.01, temperature: 1.5 },
  ];
  for (const spread of [0.5, 4, 25, 1e-7])
    for (const setting of settings) {
      const logits = Float32Array.from(
        { length: VOCABULARY },
        () => spread * (random() + random() + random() - 1.5),
      );
      const params = { ...GREEDY, temperature: 1, ...setting };
      for (const coin of [0, random(), random(), 1 - 2 ** -53]) {
        const expected = plainSample(logits, params, coin);
        assert.equal(
          sampleToken(logits, params, () => coin),
          expected,
          JSON.stringify({ spread, ...setting }),
        );
      }
    }
});
