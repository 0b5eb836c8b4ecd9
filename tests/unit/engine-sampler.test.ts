// The sampler against a slow reference that sorts everything, on random logits; and each rule by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import {
  adjustLogits,
  argmax,
  logSumExp,
  sampleToken,
  tokenLogprob,
  type TokenCounts,
} from '../../src/engine/sampler.js';
import type { SamplingParams } from '../../src/engine/types.js';
import { GREEDY } from '../helpers/tiny-model.js';

const NO_COUNTS: TokenCounts = { generated: new Map(), prompt: new Set() };

function params(values: Partial<SamplingParams>): SamplingParams {
  return { ...GREEDY, temperature: 1, ...values };
}

/** Sums of uniforms: bell-shaped, `spread` wide. */
function randomLogits(seed: number, size: number, spread: number): Float32Array {
  const random = randomStream(seed);
  return Float32Array.from({ length: size }, () => spread * (random() + random() + random() - 1.5));
}

/** token -> probability, after min_p, then top_k, then top_p, each on a renormalized distribution. */
function referenceDistribution(
  logits: Float32Array,
  { temperature, topK, topP, minP }: SamplingParams,
): Map<number, number> {
  const max = Math.max(...logits);
  const normalized = (entries: readonly (readonly [number, number])[]): (readonly [number, number])[] => {
    const total = entries.reduce((sum, [, p]) => sum + p, 0);
    return entries.map(([token, p]) => [token, p / total] as const);
  };
  let kept = normalized(
    [...logits].map((logit, token) => [token, Math.exp((logit - max) / temperature)] as const),
  );
  kept.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const best = kept[0]![1];
  kept = normalized(kept.filter(([, p]) => p >= minP * best));
  if (topK > 0) kept = normalized(kept.slice(0, topK));
  if (topP < 1) {
    let sum = 0;
    const last = kept.findIndex(([, p]) => (sum += p) >= topP);
    kept = normalized(kept.slice(0, last === -1 ? kept.length : last + 1));
  }
  return new Map(kept);
}

/** Draws with coins on an even grid: each token's share is its probability, to within two cells. */
function drawnShares(logits: Float32Array, sampling: SamplingParams, numCoins: number): Map<number, number> {
  const shares = new Map<number, number>();
  for (let i = 0; i < numCoins; i++) {
    const token = sampleToken(logits, sampling, () => (i + 0.5) / numCoins);
    shares.set(token, (shares.get(token) ?? 0) + 1 / numCoins);
  }
  return shares;
}

const SETTINGS: readonly Partial<SamplingParams>[] = [
  {},
  { temperature: 0.5 },
  { temperature: 3 },
  { topK: 1 },
  { topK: 5 },
  { topK: 1000 },
  { topP: 0.5 },
  { topP: 0.95 },
  { topP: 0.01 },
  { topP: 0.9, temperature: 2 },
  { minP: 0.2 },
  { minP: 1 },
  { minP: 1e-5, temperature: 2 },
  { topK: 8, topP: 0.7 },
  { topK: 20, topP: 0.9, minP: 0.1, temperature: 1.3 },
  { topP: 0.8, minP: 0.3 },
  { topK: 30, minP: 0.02 },
];

for (const setting of SETTINGS) {
  test(`drawn as the reference says: ${JSON.stringify(setting)}`, () => {
    const numCoins = 2000;
    for (const [seed, spread] of [
      [1, 2],
      [2, 8],
      [3, 30],
    ] as const) {
      const logits = randomLogits(seed, 60, spread);
      const sampling = params(setting);
      const expected = referenceDistribution(logits, sampling);
      const shares = drawnShares(logits, sampling, numCoins);
      for (const token of shares.keys()) assert(expected.has(token), `token ${token} is out of the kept set`);
      for (const [token, p] of expected) {
        const off = Math.abs((shares.get(token) ?? 0) - p);
        assert(off <= 2 / numCoins, `token ${token}: drawn ${shares.get(token)}, expected ${p}`);
      }
    }
  });
}

test('the nucleus is the shortest head that reaches top_p: not one token more or less', () => {
  const logits = Float32Array.from([0.4, 0.3, 0.2, 0.1], Math.log);
  const drawn = (topP: number): number[] =>
    [...drawnShares(logits, params({ topP }), 500).keys()].sort((a, b) => a - b);
  assert.deepEqual(drawn(0.39), [0]);
  assert.deepEqual(drawn(0.41), [0, 1]);
  assert.deepEqual(drawn(0.69), [0, 1]);
  assert.deepEqual(drawn(0.71), [0, 1, 2]);
  assert.deepEqual(drawn(0.91), [0, 1, 2, 3]);
});

/** Logits whose softmax at temperature 1 is 0.4, 0.3, 0.2, 0.1. */
const FOUR = Float32Array.from([0.4, 0.3, 0.2, 0.1], Math.log);
/** The same at temperature 2. */
const FOUR_AT_2 = Float32Array.from([0.4, 0.3, 0.2, 0.1], (p) => 2 * Math.log(p));

/** Each token's share of 700 draws, rounded to sevenths. */
function sevenths(logits: Float32Array, setting: Partial<SamplingParams>): [number, number][] {
  const shares = drawnShares(logits, params(setting), 700);
  const rounded = [...shares].map(([token, share]): [number, number] => [token, Math.round(share * 7)]);
  return rounded.toSorted(([a], [b]) => a - b);
}

test('min_p comes before top_p: 0.4 alone is 4/7 of what min_p leaves, but less than top_p of the whole', () => {
  assert.deepEqual(sevenths(FOUR, { minP: 0.6 }), [
    [0, 4],
    [1, 3],
  ]);
  assert.deepEqual(sevenths(FOUR, { minP: 0.6, topP: 0.55 }), [[0, 7]]);
  assert.deepEqual(sevenths(FOUR, { topP: 0.55 }), [
    [0, 4],
    [1, 3],
  ]);
});

test('top_k comes before top_p: 0.4 alone is 4/7 of the first two', () => {
  assert.deepEqual(sevenths(FOUR, { topK: 2, topP: 0.55 }), [[0, 7]]);
  assert.deepEqual(sevenths(FOUR, { topK: 2, topP: 0.6 }), [
    [0, 4],
    [1, 3],
  ]);
});

test('temperature comes before top_p and min_p: before it the first token alone would pass both', () => {
  const firstTwo = [
    [0, 4],
    [1, 3],
  ];
  assert.deepEqual(sevenths(FOUR_AT_2, { temperature: 2, topP: 0.5 }), firstTwo);
  assert.deepEqual(sevenths(FOUR_AT_2, { temperature: 2, minP: 0.6 }), firstTwo);
  assert.deepEqual(sevenths(FOUR_AT_2, { topP: 0.5 }), [[0, 7]]);
  assert.deepEqual(sevenths(FOUR_AT_2, { minP: 0.6 }), [[0, 7]]);
});

test('bias comes before the repetition penalty, and that before the others', () => {
  const logits = Float32Array.of(1, 1);
  const counts: TokenCounts = { generated: new Map([[0, 2]]), prompt: new Set() };
  const sampling = { repetitionPenalty: 2, frequencyPenalty: 0.125, presencePenalty: 0.5 };
  adjustLogits(logits, params({ ...sampling, logitBias: new Map([[0, 2]]) }), counts, []);
  assert.deepEqual([...logits], [(1 + 2) / 2 - 2 * 0.125 - 0.5, 1]);
});

test('flat logits: top_p and top_k on hundreds of equal tokens', () => {
  const flat = new Float32Array(500);
  const count = (setting: Partial<SamplingParams>): number => drawnShares(flat, params(setting), 1000).size;
  assert.equal(count({ topK: 7 }), 7);
  assert.equal(count({ topP: 0.1 }), 50);
  assert.equal(count({ topP: 0.1001 }), 51);
  assert.equal(count({}), 500);
});

test('tokens far below any cut are reached when top_p or top_k asks for them', () => {
  const steep = Float32Array.of(0, -20, -40, -5);
  assert.deepEqual([...referenceDistribution(steep, params({ topK: 3 })).keys()], [0, 3, 1]);
  assert.equal(
    sampleToken(steep, params({ topK: 3 }), () => 1 - 2 ** -53),
    1,
  );
  assert.equal(
    sampleToken(steep, params({ topK: 2 }), () => 1 - 2 ** -53),
    3,
  );
});

test('greedy takes the first of equal maxima and no coin', () => {
  const noCoin = (): number => assert.fail('greedy drew a coin');
  assert.equal(sampleToken(Float32Array.of(1, 3, 2, 3), GREEDY, noCoin), 1);
  assert.equal(argmax(Float32Array.of(-Infinity, -5, -5)), 1);
  assert.equal(sampleToken(Float32Array.of(1, 3, 2, 3), { ...GREEDY, topK: 1, topP: 0.1 }, noCoin), 1);
});

test('equal candidates are cut by token id, so that top_k is the same everywhere', () => {
  const logits = Float32Array.of(1, 2, 2, 2, 0);
  const shares = drawnShares(logits, params({ topK: 2 }), 100);
  assert.deepEqual(
    [...shares.keys()].sort((a, b) => a - b),
    [1, 2],
  );
});

test('the same coin gives the same token, and the draw takes exactly one coin', () => {
  const logits = randomLogits(5, 500, 10);
  for (const setting of SETTINGS) {
    const draw = (): number[] => {
      const coin = randomStream(8);
      return Array.from({ length: 50 }, () => sampleToken(logits.slice(), params(setting), coin));
    };
    assert.deepEqual(draw(), draw());
    let coins = 0;
    sampleToken(logits, params(setting), () => (coins++, 0.3));
    assert.equal(coins, 1, JSON.stringify(setting));
  }
});

test('coins at both ends of [0, 1) give tokens of the kept set', () => {
  const logits = randomLogits(6, 50, 5);
  for (const setting of SETTINGS) {
    const kept = referenceDistribution(logits, params(setting));
    for (const coin of [0, 1 - 2 ** -32, 1 - 2 ** -53])
      assert(
        kept.has(sampleToken(logits, params(setting), () => coin)),
        `${JSON.stringify(setting)} at ${coin}`,
      );
  }
});

test('a tiny temperature is greedy, a banned token is never drawn', () => {
  const logits = Float32Array.of(1, -Infinity, 1.5, 0.5);
  assert.deepEqual([...drawnShares(logits, params({ temperature: 1e-6 }), 50).keys()], [2]);
  assert(!drawnShares(logits, params({ temperature: 100 }), 500).has(1));
});

test('repetition penalty: positive logits are divided, negative multiplied, prompt and output once each', () => {
  const logits = Float32Array.of(2, -2, 4, -4, 1);
  const counts: TokenCounts = {
    generated: new Map([
      [2, 3],
      [0, 1],
    ]),
    prompt: new Set([0, 1]),
  };
  adjustLogits(logits, params({ repetitionPenalty: 2 }), counts, []);
  assert.deepEqual([...logits], [1, -4, 2, -4, 1]);
});

test('frequency and presence penalties look at the output alone', () => {
  const logits = Float32Array.of(1, 1, 1, 1);
  const counts: TokenCounts = {
    generated: new Map([
      [0, 1],
      [2, 4],
    ]),
    prompt: new Set([1, 2]),
  };
  adjustLogits(logits, params({ frequencyPenalty: 0.25, presencePenalty: 0.5 }), counts, []);
  assert.deepEqual([...logits], [0.25, 1, -0.5, 1]);
  adjustLogits(logits, params({ frequencyPenalty: -1 }), counts, []);
  assert.deepEqual([...logits], [1.25, 1, 3.5, 1], 'negative ones encourage');
});

test('logit_bias is added, bans win over it', () => {
  const logits = Float32Array.of(1, 2, 3);
  adjustLogits(
    logits,
    params({
      logitBias: new Map([
        [0, 100],
        [1, -100],
        [2, 100],
      ]),
    }),
    NO_COUNTS,
    [2],
  );
  assert.deepEqual([...logits], [101, -98, -Infinity]);
});

test('neutral parameters change no logit', () => {
  const logits = randomLogits(7, 40, 5);
  const counts: TokenCounts = { generated: new Map([[1, 2]]), prompt: new Set([3]) };
  const adjusted = logits.slice();
  adjustLogits(adjusted, params({}), counts, []);
  assert.deepEqual(adjusted, logits);
});

test('log-probabilities: probabilities sum to 1, the alternatives are the largest in order', () => {
  for (const [seed, spread] of [
    [1, 1],
    [2, 20],
    [3, 200],
  ] as const) {
    const logits = randomLogits(seed, 300, spread);
    let sum = 0;
    for (let token = 0; token < logits.length; token++)
      sum += Math.exp(tokenLogprob(logits, token, 0).logprob);
    assert(Math.abs(sum - 1) < 1e-9, `sum ${sum}`);
    const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
    for (const numTop of [0, 1, 20, 300]) {
      const { top, logprob, token } = tokenLogprob(logits, 17, numTop);
      assert.deepEqual(
        top.map(([id]) => id),
        order.slice(0, numTop),
      );
      assert.equal(token, 17);
      for (const [id, value] of top) assert.equal(value, tokenLogprob(logits, id, 0).logprob);
      assert(logprob <= 0);
    }
  }
});

test('alternatives that are equal come in the order of their ids', () => {
  const { top } = tokenLogprob(Float32Array.of(1, 2, 2, 1, 2), 0, 4);
  assert.deepEqual(
    top.map(([id]) => id),
    [1, 2, 4, 0],
  );
});

test('logSumExp holds out large and infinite logits', () => {
  assert.equal(logSumExp(Float32Array.of(1000, -Infinity)), 1000);
  assert(Math.abs(logSumExp(Float32Array.of(-1000, -1000)) - (-1000 + Math.LN2)) < 1e-9);
});
