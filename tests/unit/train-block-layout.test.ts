// How a batch is laid out for the blocks: who sees whom, which rows predict, where virtual tokens go.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import { layoutBatch, type LayoutOptions, type RowGroup } from '../../src/train/batch-layout.js';
import { batchOf } from '../helpers/train-fixtures.js';

/** Two dimensions, of which cos gives the position itself. */
const OPTIONS: LayoutOptions = {
  numVirtualTokens: 0,
  numPrefixTokens: 0,
  slidingWindow: null,
  maxTokens: 64,
  headDim: 2,
  rope: (length) => ({
    cos: Float32Array.from({ length }, (_, position) => position),
    sin: new Float32Array(length),
  }),
};

/** Of one row's first tokens: a line a token, x where it sees a key. */
function seen({ mask, numTokens }: RowGroup, count: number, keys = count): string[] {
  const numKeys = mask.length / numTokens;
  return Array.from({ length: count }, (_, query) =>
    Array.from(mask.subarray(query * numKeys, query * numKeys + keys), (value) =>
      value === 0 ? 'x' : '.',
    ).join(''),
  );
}

test('a token sees its own segment up to itself', () => {
  const batch = batchOf([[{ tokens: [1, 2, 3] }, { tokens: [4, 5] }]]);
  const [group] = layoutBatch(batch, OPTIONS);
  assert.deepEqual(seen(group!, 5), ['x....', 'xx...', 'xxx..', '...x.', '...xx']);
  assert.deepEqual([...group!.cos.subarray(0, 5)], [0, 1, 2, 0, 1]);
});

test('padding sees padding, so that no row of the mask is empty, and no token sees padding', () => {
  const [group] = layoutBatch(batchOf([[{ tokens: [1, 2] }]], 4), OPTIONS);
  assert.deepEqual(seen(group!, 4), ['x...', 'xx..', '..x.', '..xx']);
});

test('a window ends the view, and the prefix is as far away as its positions say', () => {
  const batch = batchOf([[{ tokens: [1, 2, 3, 4] }, { tokens: [5, 6] }]]);
  const [group] = layoutBatch(batch, { ...OPTIONS, numPrefixTokens: 2, slidingWindow: 3 });
  assert.deepEqual(seen(group!, 6, 8), [
    'xxx.....',
    '.xxx....',
    '..xxx...',
    '...xxx..',
    'xx....x.',
    '.x....xx',
  ]);
  assert.deepEqual([...group!.cos.subarray(0, 6)], [2, 3, 4, 5, 2, 3]);
});

test('virtual tokens stand before every segment and shift its positions, not its labels', () => {
  const batch = batchOf([[{ tokens: [11, 12] }, { tokens: [13, 14, 15], labels: [IGNORED, IGNORED, 15] }]]);
  const [group] = layoutBatch(batch, { ...OPTIONS, numVirtualTokens: 2 });
  assert.deepEqual([...group!.tokens.subarray(0, 9)], [-1, -2, 11, 12, -1, -2, 13, 14, 15]);
  assert.deepEqual([...group!.cos.subarray(0, 9)], [0, 1, 2, 3, 0, 1, 2, 3, 4]);
  assert.deepEqual([...group!.predicting], [2, 7]);
  assert.deepEqual([...group!.labels], [12, 15]);
});

test('rows are grouped up to the most tokens, and padding behind the longest of a group is left out', () => {
  const row = (length: number) => [{ tokens: Array<number>(length).fill(1) }];
  const groups = layoutBatch(batchOf([row(3), row(20), row(60), row(5), row(16)], 100), OPTIONS);
  assert.deepEqual(
    groups.map(({ numRows, numTokens }) => [numRows, numTokens]),
    [
      [2, 32],
      [1, 64],
      [2, 16],
    ],
  );
  assert.deepEqual(
    groups.map(({ labels }) => labels.length),
    [21, 59, 19],
  );
});

test('a row that is longer than the most tokens is a group of its own', () => {
  const [group, ...others] = layoutBatch(batchOf([[{ tokens: Array<number>(90).fill(1) }]]), OPTIONS);
  assert.deepEqual([group!.numTokens, others.length], [96, 0]);
});
