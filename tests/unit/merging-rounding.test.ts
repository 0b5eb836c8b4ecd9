// Rounding to 4 bits that knows the inputs: what it keeps, and that it is better than rounding each value by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { roundCompensated } from '../../src/model/merged/compensated-rounding.js';
import { InputStatistics } from '../../src/model/merged/input-statistics.js';
import { quantizeInt4, type QuantizedRows } from '../../src/model/quantization.js';

const ROWS = 8;
const COLS = 160;
const TOKENS = 400;

function random(seed: number, size: number): Float32Array {
  const next = randomStream(seed);
  return Float32Array.from({ length: size }, () => 2 * next() - 1);
}

/** Inputs whose columns go together, as those of a model do. */
function inputs(seed: number): Float32Array {
  const common = random(seed, TOKENS * 4);
  const mix = random(seed + 1, 4 * COLS);
  const own = random(seed + 2, TOKENS * COLS);
  return own.map((value, at) => {
    const [token, col] = [Math.floor(at / COLS), at % COLS];
    let sum = 0.1 * value;
    for (let i = 0; i < 4; i++) sum += common[token * 4 + i]! * mix[i * COLS + col]!;
    return sum;
  });
}

function decode({ data, scales, minima }: QuantizedRows): Float32Array {
  return Float32Array.from({ length: ROWS * COLS }, (_, at) => {
    const block = Math.floor(at / 32);
    const pair = data[at >> 1]!;
    return scales[block]! * ((at % 2 === 0 ? pair & 15 : pair >> 4) - 8) + minima!.data[block]!;
  });
}

/** Mean square of the error in W x over the inputs. */
function productError(weights: Float32Array, other: Float32Array, x: Float32Array): number {
  let sum = 0;
  for (let token = 0; token < TOKENS; token++)
    for (let row = 0; row < ROWS; row++) {
      let error = 0;
      for (let k = 0; k < COLS; k++)
        error += (weights[row * COLS + k]! - other[row * COLS + k]!) * x[token * COLS + k]!;
      sum += error * error;
    }
  return sum / (TOKENS * ROWS);
}

test('a factor U is upper triangular, and U times its transpose undoes the inputs’ second moments', () => {
  const statistics = new InputStatistics(COLS);
  const x = inputs(1);
  statistics.add(x);
  const [{ start, size, upper }, rest] = statistics.factors() as [never, never] as [
    { start: number; size: number; upper: Float64Array },
    { start: number; size: number },
  ];
  assert.deepEqual([start, size, rest.start, rest.size], [0, 128, 128, 32]);
  const h = new Float64Array(size * size);
  for (let token = 0; token < TOKENS; token++)
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) h[i * size + j]! += x[token * COLS + i]! * x[token * COLS + j]!;
  const mean = Array.from({ length: size }, (_, i) => h[i * size + i]!).reduce((a, b) => a + b) / size;
  for (let i = 0; i < size; i++) h[i * size + i]! += 0.01 * mean;
  // U H Uᵀ is the identity where Uᵀ U is the inverse of H.
  for (const [i, j] of [
    [0, 0],
    [5, 5],
    [127, 127],
    [0, 1],
    [3, 90],
  ] as const) {
    let sum = 0;
    for (let a = 0; a < size; a++)
      for (let b = 0; b < size; b++) sum += upper[i * size + a]! * h[a * size + b]! * upper[j * size + b]!;
    assert(Math.abs(sum - (i === j ? 1 : 0)) < 1e-6, `${i}, ${j}: ${sum}`);
    assert.equal(upper[Math.max(i, j) * size + Math.min(i, j)] === 0, i !== j);
  }
});

test('products keep closer to the unrounded ones than when each value is rounded by itself', () => {
  const statistics = new InputStatistics(COLS);
  const x = inputs(3);
  statistics.add(x);
  const weights = random(9, ROWS * COLS);
  const plain = decode(quantizeInt4(weights, ROWS, COLS));
  const compensated = decode(roundCompensated(weights.slice(), ROWS, COLS, statistics.factors(), null));
  const [plainError, error] = [productError(weights, plain, x), productError(weights, compensated, x)];
  assert(error < 0.3 * plainError, `${error} against ${plainError}`);
});

test('values on the grid they had before are kept to the bit', () => {
  const statistics = new InputStatistics(COLS);
  statistics.add(inputs(5));
  const before = quantizeInt4(random(11, ROWS * COLS), ROWS, COLS);
  const values = decode(before);
  const grid = { scales: before.scales, minima: before.minima!.data };
  const again = roundCompensated(values.slice(), ROWS, COLS, statistics.factors(), grid);
  assert.deepEqual(again.data, before.data);
  assert.deepEqual(decode(again), values);
});

test('columns that no probe ever fills are rounded all the same', () => {
  const factors = new InputStatistics(COLS).factors();
  const weights = random(13, ROWS * COLS);
  const rounded = decode(roundCompensated(weights.slice(), ROWS, COLS, factors, null));
  assert(rounded.every((value, i) => Math.abs(value - weights[i]!) < 0.2));
});
