// Micro-batches: every example once an epoch, the same for the same seed, epoch and index, laid out as the trainer reads them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BatchOptions, createBatches } from '../../src/data/batches.js';
import { packBestFit } from '../../src/data/packing.js';
import {
  IGNORED,
  type TokenizedExample,
  type TokenizedPair,
  type TrainingBatch,
} from '../../src/data/types.js';
import type { BatchSource } from '../../src/train/batch-source.js';
import { randomNumbers } from '../helpers/tokenizer-fixture.js';

const OPTIONS: BatchOptions = { batchSize: 4, packing: false, cutoffLength: 64, seed: 7, padTo: 8 };

/** Its tokens are its name, so that it is known again; all but the first are learned. */
function example(name: number, length: number): TokenizedExample {
  const tokens = new Int32Array(length).fill(name);
  const labels = tokens.slice();
  labels[0] = IGNORED;
  return { tokens, labels };
}
function examples(count: number): TokenizedExample[] {
  const random = randomNumbers(3);
  return Array.from({ length: count }, (_, index) => example(index + 1, 2 + random(40)));
}
const batchesOf = (source: BatchSource, epoch: number): TrainingBatch[] =>
  Array.from({ length: source.numMicroBatches }, (_, index) => source.microBatch(epoch, index));

/** [name, length] of every segment, by row, after checking that rows are laid out as the types say. */
function segmentsOf(batch: TrainingBatch): [number, number][] {
  const found: [number, number][] = [];
  const { numRows, numTokens } = batch;
  for (const array of [batch.tokens, batch.labels, batch.segments, batch.positions])
    assert.equal(array.length, numRows * numTokens);
  for (let row = 0; row < numRows; row++) {
    let segment = 0;
    for (let at = row * numTokens; at < (row + 1) * numTokens; at++) {
      const isPadding = batch.segments[at] === 0;
      const isFirst = !isPadding && batch.segments[at] !== segment;
      if (isPadding) {
        assert.deepEqual([batch.tokens[at], batch.labels[at], batch.positions[at]], [0, IGNORED, 0]);
        segment = Infinity;
      } else if (isFirst) {
        assert.equal(batch.segments[at], segment + 1, 'segments count up, padding is last');
        segment++;
        found.push([batch.tokens[at]!, 0]);
      }
      if (isPadding) continue;
      const last = found.at(-1)!;
      assert.equal(batch.positions[at], last[1]++);
      assert.equal(batch.tokens[at], last[0]);
      assert.equal(batch.labels[at], isFirst ? IGNORED : last[0]);
    }
  }
  return found;
}

for (const packing of [false, true])
  test(`every example is there once an epoch, ${packing ? 'packed' : 'a row each'}`, () => {
    const all = examples(103);
    const source = createBatches(all, { ...OPTIONS, packing });
    for (const epoch of [0, 1]) {
      const segments = batchesOf(source, epoch).flatMap(segmentsOf);
      assert.deepEqual(
        segments.toSorted(([a], [b]) => a - b),
        all.map(({ tokens }) => [tokens[0]!, tokens.length]),
      );
    }
  });

test('a batch follows from seed, epoch and index, in whatever order it is asked for', () => {
  for (const packing of [false, true]) {
    const all = examples(60);
    const source = createBatches(all, { ...OPTIONS, packing });
    const other = createBatches(all, { ...OPTIONS, packing });
    const last = other.microBatch(5, 2);
    assert.deepEqual(batchesOf(other, 1), batchesOf(source, 1));
    assert.deepEqual(source.microBatch(5, 2), last);
    assert.notDeepEqual(batchesOf(source, 0), batchesOf(source, 1));
    const seeded = createBatches(all, { ...OPTIONS, packing, seed: 8 });
    assert.notDeepEqual(batchesOf(seeded, 0), batchesOf(source, 0));
    assert.equal(seeded.numMicroBatches, source.numMicroBatches);
  }
});

test('the fingerprint is that of data and options', () => {
  const all = examples(5);
  const of = (parts: (TokenizedExample | TokenizedPair)[], options: Partial<BatchOptions> = {}) =>
    createBatches(parts, { ...OPTIONS, ...options }).fingerprint;
  assert.equal(of(all), of(examples(5)));
  assert.notEqual(of(all), of(all.slice(1)));
  assert.notEqual(of(all), of([...all.slice(1), all[0]!]));
  assert.notEqual(of(all), of(all, { seed: 1 }));
  assert.notEqual(of(all), of(all, { packing: true }));
  assert.notEqual(of([all[0]!, all[1]!]), of([{ chosen: all[0]!, rejected: all[1]! }]));
  const masked = { tokens: all[0]!.tokens, labels: new Int32Array(all[0]!.labels.length).fill(IGNORED) };
  assert.notEqual(of([all[0]!]), of([masked]));
});

test('rows are as long as the longest of the batch, rounded up, and not over the cutoff', () => {
  const widths = (lengths: number[], options: Partial<BatchOptions>) =>
    batchesOf(
      createBatches(
        lengths.map((length, index) => example(index + 1, length)),
        { ...OPTIONS, ...options },
      ),
      0,
    ).map(({ numRows, numTokens }) => [numRows, numTokens]);
  assert.deepEqual(widths([3, 9, 17], {}), [[3, 24]]);
  assert.deepEqual(widths([3], { padTo: 16 }), [[1, 16]]);
  assert.deepEqual(widths([57], { cutoffLength: 60 }), [[1, 60]]);
});

test('batches hold examples of similar length', () => {
  const all = examples(256);
  const padded = batchesOf(createBatches(all, { ...OPTIONS, padTo: 1 }), 0).reduce(
    (sum, { tokens }) => sum + tokens.length,
    0,
  );
  const real = all.reduce((sum, { tokens }) => sum + tokens.length, 0);
  assert(padded < real * 1.1, `${padded} tokens for ${real}`);
});

test('packing fills rows, restarts positions, and mixes no two examples', () => {
  const all = examples(200);
  const batches = batchesOf(createBatches(all, { ...OPTIONS, packing: true }), 0);
  const size = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const real = all.reduce((sum, { tokens }) => sum + tokens.length, 0);
  assert(size < real * 1.05, `${size} places for ${real} tokens`);
  assert(batches.every(({ numTokens }) => numTokens <= 64));
  assert(batches.flatMap(segmentsOf).length === 200);
});

test('best fit: the fullest row that has room, rows never over', () => {
  assert.deepEqual(packBestFit([6, 5, 4, 3, 2], 10), [
    [0, 2],
    [1, 3, 4],
  ]);
  assert.deepEqual(packBestFit([10, 10], 10), [[0], [1]]);
  assert.deepEqual(packBestFit([12, 3], 10), [[0], [1]]);
  const random = randomNumbers(5);
  const lengths = Array.from({ length: 500 }, () => 1 + random(100));
  const rows = packBestFit(lengths, 100);
  assert.deepEqual(
    rows.flat().toSorted((a, b) => a - b),
    [...lengths.keys()],
  );
  for (const row of rows) assert(row.reduce((sum, index) => sum + lengths[index]!, 0) <= 100);
  const reversed = packBestFit(lengths.toReversed(), 100);
  assert.equal(reversed.length, rows.length, 'the number of rows depends on the lengths alone');
});

test('the two sides of a pair are neighbours in one batch, chosen first', () => {
  const random = randomNumbers(9);
  const pairs = Array.from({ length: 21 }, (_, index) => ({
    chosen: example(2 * index + 1, 2 + random(60)),
    rejected: example(2 * index + 2, 2 + random(60)),
  }));
  for (const packing of [false, true])
    for (const batchSize of [1, 3]) {
      const source = createBatches(pairs, { ...OPTIONS, packing, batchSize });
      let count = 0;
      for (const batch of batchesOf(source, 0)) {
        const names = segmentsOf(batch).map(([name]) => name);
        assert.equal(names.length % 2, 0);
        for (let at = 0; at < names.length; at += 2) {
          assert.equal(names[at]! % 2, 1, 'chosen first');
          assert.equal(names[at + 1], names[at]! + 1);
        }
        if (!packing) assert(batch.numRows <= 2 * batchSize && batch.numRows === names.length);
        count += names.length / 2;
      }
      assert.equal(count, 21);
    }
});
