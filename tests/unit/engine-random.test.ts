// The random stream: fixed for ever by its first values (sfc32 as published, computed independently), and coarsely uniform.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';

/** sfc32 with 32-bit words by BigInt: a = seed's low word, b = its high word, c = the golden ratio, counter 1, 12 values dropped. */
function referenceStream(seed: bigint): () => number {
  const word = (value: bigint): bigint => BigInt.asUintN(32, value);
  let [a, b, c, counter] = [word(seed), word(seed >> 32n), 0x9e3779b9n, 1n];
  const next = (): number => {
    const sum = word(a + b + counter);
    counter = word(counter + 1n);
    a = b ^ (b >> 9n);
    b = word(c + (c << 3n));
    c = word(((c << 21n) | (c >> 11n)) + sum);
    return Number(sum) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

function first(seed: number, count: number): number[] {
  const next = randomStream(seed);
  return Array.from({ length: count }, next);
}

test('the first values of some seeds never change', () => {
  const golden: readonly (readonly [number, readonly number[]])[] = [
    [0, [0x5515bf5a, 0x760ecfff, 0x1b36c8e1]],
    [1, [0x22284310, 0xc2cd1a3e, 0x29e81d7b]],
    [42, [0x6e3dec97, 0xfbbcc5a0, 0x07168fc7]],
    [2 ** 40, [0xa93318b9, 0x99e0919b, 0x1cb0db2d]],
  ];
  for (const [seed, words] of golden)
    assert.deepEqual(
      first(seed, 3),
      words.map((word) => word / 2 ** 32),
      `seed ${seed}`,
    );
});

test('equals sfc32 computed with big integers, for seeds of one and two words', () => {
  for (const seed of [0, 1, 12345, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER]) {
    const reference = referenceStream(BigInt(seed));
    assert.deepEqual(
      first(seed, 200),
      Array.from({ length: 200 }, () => reference()),
      `seed ${seed}`,
    );
  }
});

test('streams are independent values: one does not disturb another', () => {
  const [a, b] = [randomStream(5), randomStream(5)];
  const values = Array.from({ length: 10 }, a);
  randomStream(6)();
  assert.deepEqual(Array.from({ length: 10 }, b), values);
});

test('neighbouring seeds, and seeds that differ in the high word, give different streams', () => {
  const starts = [0, 1, 2, 3, 2 ** 32, 2 ** 33].map((seed) => first(seed, 4).join());
  assert.equal(new Set(starts).size, starts.length);
});

test('values are in [0, 1) and fill 16 bins evenly', () => {
  const bins = new Array<number>(16).fill(0);
  const next = randomStream(9);
  const count = 64_000;
  for (let i = 0; i < count; i++) {
    const value = next();
    assert(value >= 0 && value < 1);
    bins[Math.floor(value * 16)]!++;
  }
  const expected = count / 16;
  const chiSquared = bins.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  assert(chiSquared < 37.7, `chi squared ${chiSquared} with 15 degrees of freedom (0.1 % level)`);
});
