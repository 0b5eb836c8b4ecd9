// What is counted of an adapter when it is made.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loraAdapter } from '../../src/adapters/lora-adapter.js';
import type { LayerDelta } from '../../src/adapters/types.js';

const lowRank = (rank: number): LayerDelta => ({
  lora: { q_proj: { rank, a: new Float32Array(4 * rank), b: new Float32Array(6 * rank) } },
  affine: {},
});
const biased: LayerDelta = {
  lora: {},
  affine: { o_proj: { outScale: null, inScale: null, bias: new Float32Array(5) } },
};
const empty: LayerDelta = { lora: {}, affine: {} };

test('low-rank updates alone', () => {
  const adapter = loraAdapter('h', [lowRank(2), lowRank(3), empty]);
  assert.deepEqual([adapter.hash, adapter.maxRank, adapter.hasAffine], ['h', 3, false]);
  assert.equal(adapter.sizeBytes, 4 * 10 * 5);
});

test('scales and biases in any block', () => {
  const adapter = loraAdapter('h', [lowRank(2), biased]);
  assert.deepEqual([adapter.maxRank, adapter.hasAffine, adapter.sizeBytes], [2, true, 4 * 25]);
  assert.deepEqual(
    [loraAdapter('h', [biased]), loraAdapter('h', [empty])].map(({ maxRank, hasAffine }) => [
      maxRank,
      hasAffine,
    ]),
    [
      [0, true],
      [0, false],
    ],
  );
});
