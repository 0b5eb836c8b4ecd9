// Memory of activations: used again, and not hoarded where lengths differ from batch to batch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArrayPool } from '../../src/train/graphs/array-pool.js';

test('what was given back is taken again, at any length that needs about as much', () => {
  const pool = new ArrayPool();
  const first = pool.take(1000);
  pool.give(first);
  const again = pool.take(1010);
  assert.equal(again.buffer, first.buffer);
  assert.deepEqual([first.length, again.length], [1000, 1010]);
  assert.notEqual(pool.take(1000).buffer, again.buffer, 'it is in use');
});

test('capacities are at most an eighth more than was asked for', () => {
  for (const length of [0, 1, 7, 8, 9, 100, 1025, 147_456, 150_000]) {
    const { buffer } = new ArrayPool().take(length);
    const capacity = buffer.byteLength / 4;
    assert(capacity >= length && capacity <= Math.max(1, length * 1.125), `${capacity} for ${length}`);
  }
});

test('a run over many lengths holds hardly more than the longest needs', () => {
  const pool = new ArrayPool();
  const most = 30 * 2048;
  for (let length = 2048; length >= 64; length -= 16) {
    const arrays = Array.from({ length: 30 }, () => pool.take(length));
    for (const array of arrays) pool.give(array);
    assert(pool.numHeld <= 1.3 * most, `${pool.numHeld} after length ${length}`);
  }
});

test('arrays of others are not taken in', () => {
  const pool = new ArrayPool();
  pool.give(new Float32Array(8));
  assert.equal(pool.numHeld, 0);
});
