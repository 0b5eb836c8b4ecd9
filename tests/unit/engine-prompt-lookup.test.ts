import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draftFrom, DraftSize } from '../../src/engine/prompt-lookup.js';

test('a draft is what followed the latest place where the last tokens stood', () => {
  assert.deepEqual(draftFrom([1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
  assert.deepEqual(draftFrom([1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], 1), [8]);
  assert.deepEqual(draftFrom([1, 2, 3, 4, 5, 1, 2, 3], 9), [4, 5, 1, 2, 3]);
});

test('three tokens alike go before two, and two are enough', () => {
  assert.deepEqual(draftFrom([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], 1), [7]);
  assert.deepEqual(draftFrom([9, 2, 3, 8, 1, 2, 3], 1), [8]);
});

test('a text that repeats one token goes on with it', () => {
  assert.deepEqual(draftFrom([5, 5, 5, 5], 3), [5]);
  assert.deepEqual(draftFrom([6, 5, 5, 5, 5, 5], 2), [5]);
});

test('no draft where nothing stood before, or the text is too short', () => {
  for (const tokens of [[], [1], [1, 1], [1, 2, 3, 4, 1, 3]]) assert.deepEqual(draftFrom(tokens, 4), []);
});

test('drafts grow while they are right, shrink while they are wrong, and pause after the smallest was', () => {
  const size = new DraftSize();
  assert.equal(size.next(), 3);
  size.note(3, 3);
  assert.equal(size.next(), 7);
  size.note(7, 7);
  assert.equal(size.next(), 7);
  size.note(4, 7);
  assert.equal(size.next(), 7, 'enough were right');
  size.note(1, 7);
  assert.equal(size.next(), 3);
  size.note(0, 3);
  assert.equal(size.next(), 1);
  size.note(0, 1);
  assert.deepEqual(
    Array.from({ length: 5 }, () => size.next()),
    [0, 0, 0, 0, 1],
  );
});
