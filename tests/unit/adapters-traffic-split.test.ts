// Which target of an alias a request goes to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stickyPoint, targetAt } from '../../src/adapters/traffic-split.js';

const split = (...weights: number[]) => weights.map((weight, index) => ({ weight, index }));

test('each target has its share of the line, ends excluded', () => {
  const targets = split(90, 0, 10);
  const at = (point: number) => targetAt(targets, point).index;
  assert.deepEqual([0, 0.5, 0.8999, 0.9, 0.95, 0.999999].map(at), [0, 0, 0, 2, 2, 2]);
  assert.equal(targetAt(split(0, 100), 0).index, 1, 'a target of weight 0 gets nothing');
  assert.equal(targetAt(split(100), 0.999999999).index, 0);
});

test('the same texts have the same point, and many texts are spread evenly', () => {
  assert.equal(stickyPoint(['t', 'prod', 'ann']), stickyPoint(['t', 'prod', 'ann']));
  const joins = [
    ['a', 'bc'],
    ['ab', 'c'],
    ['a', 'b', 'c'],
  ].map(stickyPoint);
  assert.equal(new Set(joins).size, 3, 'texts are not simply joined');
  const counts = [0, 0];
  for (let user = 0; user < 10_000; user++)
    counts[targetAt(split(90, 10), stickyPoint(['t', 'prod', `user ${user}`])).index]!++;
  // Four standard deviations.
  assert.ok(Math.abs(counts[1]! - 1_000) < 120, `${counts[1]} of 10,000 went to the tenth`);
});

test('where the shares move by a tenth, nine in ten keep their target', () => {
  let numMoved = 0;
  for (let user = 0; user < 10_000; user++) {
    const point = stickyPoint(['t', 'prod', `${user}`]);
    if (targetAt(split(90, 10), point).index !== targetAt(split(80, 20), point).index) numMoved++;
  }
  assert.ok(Math.abs(numMoved - 1_000) < 120, `${numMoved} of 10,000 moved`);
});
