// Properties of the cache of loaded adapters: pins are never evicted, bytes add up, loads are shared, failures are forgotten.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPinnedCache, type Pin, type PinnedCache } from '../../src/adapters/pinned-cache.js';
import { gated, seededRandom } from '../helpers/adapter-fixtures.js';

interface Value {
  readonly key: string;
  readonly sizeBytes: number;
}

const load = (key: string, sizeBytes: number) => () => Promise.resolve({ key, sizeBytes });

function checkBytes(cache: PinnedCache<Value>): void {
  const { budgetBytes, pinnedBytes, idleBytes, freeBytes, overBytes } = cache.usage();
  assert.equal(pinnedBytes + idleBytes + freeBytes, budgetBytes + overBytes);
  assert.ok(freeBytes === 0 || overBytes === 0);
  assert.ok(overBytes === 0 || idleBytes === 0, 'idle values are kept beyond the budget');
}

test('any sequence of acquire, release and retire keeps its pins and its sums', async () => {
  for (let seed = 0; seed < 30; seed++) {
    const random = seededRandom(seed);
    const pick = (count: number) => Math.floor(((random() + 1) / 2) * count);
    const sizes = Array.from({ length: 8 }, () => 1 + pick(60));
    const cache = createPinnedCache<Value>(100);
    const pins: { key: number; pin: Pin<Value> }[] = [];
    for (let step = 0; step < 200; step++) {
      const key = pick(sizes.length);
      const action = pick(10);
      if (action < 5) {
        const pinned = pins.find((entry) => entry.key === key);
        const pin = await cache.acquire(`${key}`, `n${key}`, load(`${key}`, sizes[key]!));
        if (pinned !== undefined)
          assert.equal(pin.value, pinned.pin.value, 'a pinned value was loaded again');
        pins.push({ key, pin });
      } else if (action < 9 && pins.length > 0) {
        pins.splice(pick(pins.length), 1)[0]!.pin.release();
      } else cache.retire(`${key}`);
      const pinnedKeys = [...new Set(pins.map((entry) => entry.key))];
      checkBytes(cache);
      assert.equal(
        cache.usage().pinnedBytes,
        pinnedKeys.reduce((sum, pinned) => sum + sizes[pinned]!, 0),
      );
      for (const pinned of sizes.keys()) {
        assert.equal(cache.isHeld(`${pinned}`), pinnedKeys.includes(pinned));
        const row = cache.rows().find((entry) => entry.key === `${pinned}`);
        assert.equal(row?.pins ?? 0, pins.filter((entry) => entry.key === pinned).length);
      }
    }
    for (const { pin } of pins) pin.release();
    checkBytes(cache);
    assert.equal(cache.usage().pinnedBytes, 0);
  }
});

test('the least recently used idle value goes first', async () => {
  const cache = createPinnedCache<Value>(100);
  for (const key of ['a', 'b', 'a', 'c']) (await cache.acquire(key, key, load(key, 40))).release();
  assert.deepEqual(
    cache.rows().map(({ key }) => key),
    ['c', 'a'],
  );
});

test('pinned values may exceed the budget, which is reported, and fall back under it', async () => {
  const cache = createPinnedCache<Value>(100);
  const first = await cache.acquire('a', 'a', load('a', 70));
  const second = await cache.acquire('b', 'b', load('b', 70));
  assert.deepEqual(cache.usage(), {
    budgetBytes: 100,
    pinnedBytes: 140,
    idleBytes: 0,
    freeBytes: 0,
    overBytes: 40,
  });
  first.release();
  assert.deepEqual(cache.usage(), {
    budgetBytes: 100,
    pinnedBytes: 70,
    idleBytes: 0,
    freeBytes: 30,
    overBytes: 0,
  });
  second.release();
  assert.deepEqual(cache.usage(), {
    budgetBytes: 100,
    pinnedBytes: 0,
    idleBytes: 70,
    freeBytes: 30,
    overBytes: 0,
  });
});

test('a value beyond the budget is served and then forgotten', async () => {
  const cache = createPinnedCache<Value>(100);
  const pin = await cache.acquire('a', 'a', load('a', 170));
  assert.equal(pin.value.sizeBytes, 170);
  pin.release();
  assert.deepEqual(cache.rows(), []);
  assert.equal(cache.usage().freeBytes, 100);
});

test('all who wait share one load, and each holds a pin', async () => {
  const cache = createPinnedCache<Value>(100);
  const gate = gated<Value>();
  let numLoads = 0;
  const slow = () => {
    numLoads++;
    return gate.promise;
  };
  const waiters = Array.from({ length: 5 }, (_, index) => cache.acquire('a', `name${index % 2}`, slow));
  const other = await cache.acquire('b', 'b', load('b', 30));
  assert.equal(other.value.key, 'b', 'another value waits for a load that is not its own');
  assert.ok(cache.isHeld('a'));
  gate.resolve({ key: 'a', sizeBytes: 10 });
  const pins = await Promise.all(waiters);
  assert.equal(numLoads, 1);
  assert.ok(pins.every(({ value }) => value === pins[0]!.value));
  assert.deepEqual(cache.rows(), [
    { key: 'a', label: 'name0', sizeBytes: 10, pins: 3 },
    { key: 'a', label: 'name1', sizeBytes: 10, pins: 2 },
    { key: 'b', label: 'b', sizeBytes: 30, pins: 1 },
  ]);
});

test('a failed load fails all its waiters and is not remembered', async () => {
  const cache = createPinnedCache<Value>(100);
  const fail = () => Promise.reject(new Error('disk'));
  const waiters = await Promise.allSettled([cache.acquire('a', 'a', fail), cache.acquire('a', 'a', fail)]);
  assert.deepEqual(
    waiters.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(cache.isHeld('a'), false);
  assert.equal((await cache.acquire('a', 'a', load('a', 5))).value.sizeBytes, 5);
});

test('a retired value goes with its last pin, unless it is wanted again before', async () => {
  const cache = createPinnedCache<Value>(100);
  const pin = await cache.acquire('a', 'a', load('a', 5));
  cache.retire('a');
  assert.ok(cache.isHeld('a'));
  pin.release();
  assert.deepEqual(cache.rows(), []);
  const again = await cache.acquire('a', 'a', load('a', 5));
  cache.retire('a');
  (await cache.acquire('a', 'a', load('a', 5))).release();
  again.release();
  assert.equal(cache.usage().idleBytes, 5);
});

test('releasing twice is our bug, and says so', async () => {
  const cache = createPinnedCache<Value>(100);
  const pin = await cache.acquire('a', 'a', load('a', 5));
  pin.release();
  assert.throws(() => pin.release(), { name: 'AssertionError', message: /released twice/ });
  assert.equal(cache.usage().idleBytes, 5);
});
