// Token buckets under a clock by hand, and quotas.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { durationText } from '../../src/server/rate-limits.js';
import { checkQuotas, createQuotaCheck } from '../../src/tenants/quotas.js';
import { createRateLimiter } from '../../src/tenants/rate-limit.js';
import type { RateLimits } from '../../src/tenants/types.js';

const SIXTY: RateLimits = { requestsPerMinute: 60, tokensPerMinute: 600 };
const NONE: RateLimits = { requestsPerMinute: null, tokensPerMinute: null };

function limiter() {
  const time = { nowMs: 1_000_000 };
  return { time, limit: createRateLimiter(() => time.nowMs) };
}

test('a minute’s requests at once, then one a second', () => {
  const { limit, time } = limiter();
  for (let i = 0; i < 60; i++) assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 0);
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 1000);
  assert.deepEqual(limit.state('a', 'requests', SIXTY), { limit: 60, remaining: 0, resetMs: 60_000 });
  time.nowMs += 400;
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 600);
  time.nowMs += 600;
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 0);
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 1000);
});

test('what waits the time that it is told is taken', () => {
  const { limit, time } = limiter();
  const limits = { requestsPerMinute: 7, tokensPerMinute: null };
  for (let i = 0; i < 50; i++) {
    const { waitMs } = limit.take('a', 'requests', limits, 1);
    time.nowMs += waitMs;
    if (waitMs > 0) assert.equal(limit.take('a', 'requests', limits, 1).waitMs, 0, `request ${i}`);
  }
});

test('tenants and kinds have buckets of their own, and without a limit there is none', () => {
  const { limit } = limiter();
  assert.equal(limit.take('a', 'tokens', SIXTY, 600).waitMs, 0);
  assert.equal(limit.take('a', 'tokens', SIXTY, 1).waitMs, 100);
  assert.equal(limit.take('b', 'tokens', SIXTY, 600).waitMs, 0);
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 0);
  assert.deepEqual(limit.take('a', 'tokens', NONE, 1e9), { waitMs: 0, taken: 0 });
  assert.equal(limit.state('a', 'tokens', NONE), null);
});

test('what was reserved and not used comes back, at most to the brim', () => {
  const { limit } = limiter();
  assert.deepEqual(limit.take('a', 'tokens', SIXTY, 500), { waitMs: 0, taken: 500 });
  limit.give('a', 'tokens', SIXTY, 450);
  assert.equal(limit.state('a', 'tokens', SIXTY)!.remaining, 550);
  limit.give('a', 'tokens', SIXTY, 1000);
  assert.deepEqual(limit.state('a', 'tokens', SIXTY), { limit: 600, remaining: 600, resetMs: 0 });
});

test('a cost beyond the bucket needs a full one, and its rest becomes a debt that time pays', () => {
  const { limit, time } = limiter();
  assert.deepEqual(limit.take('a', 'tokens', SIXTY, 5000), { waitMs: 0, taken: 600 });
  limit.give('a', 'tokens', SIXTY, 600 - 900);
  assert.deepEqual(limit.state('a', 'tokens', SIXTY), { limit: 600, remaining: 0, resetMs: 90_000 });
  assert.equal(limit.take('a', 'tokens', SIXTY, 10).waitMs, 31_000);
  time.nowMs += 89_000;
  assert.equal(limit.take('a', 'tokens', SIXTY, 5000).waitMs, 1000);
});

test('a changed limit holds at once: a lower one cuts the bucket, a higher one fills from where it was', () => {
  const { limit, time } = limiter();
  limit.take('a', 'requests', SIXTY, 30);
  assert.equal(limit.state('a', 'requests', { ...SIXTY, requestsPerMinute: 10 })!.remaining, 10);
  assert.equal(limit.state('a', 'requests', { ...SIXTY, requestsPerMinute: 600 })!.remaining, 10);
  time.nowMs += 1000;
  assert.equal(limit.state('a', 'requests', { ...SIXTY, requestsPerMinute: 600 })!.remaining, 20);
});

test('a clock that is set back neither fills nor empties', () => {
  const { limit, time } = limiter();
  limit.take('a', 'requests', SIXTY, 60);
  time.nowMs -= 3_600_000;
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 1000);
  time.nowMs += 1000;
  assert.equal(limit.take('a', 'requests', SIXTY, 1).waitMs, 0);
});

test('durations as OpenAI writes them', () => {
  assert.deepEqual([0, 12, 999, 1000, 1500, 60_000, 61_250, 360_000].map(durationText), [
    '0ms',
    '12ms',
    '999ms',
    '1s',
    '1.5s',
    '1m0s',
    '1m1.25s',
    '6m0s',
  ]);
});

const quotaError = (pattern: RegExp) => (error: unknown) => {
  assert(error instanceof GatewayError && error.code === 'quota_exceeded' && error.status === 403);
  assert.match(error.message, pattern);
  return true;
};

test('a quota lets in what fits and names what there is, what would be added and what to do', () => {
  const held = { adapters: 2, bytes: 90, jobs: 0 };
  const quotas = { adapters: 3, bytes: 100, jobs: null };
  checkQuotas(quotas, held, { adapters: 1, bytes: 10, jobs: 99 });
  assert.throws(
    () => checkQuotas(quotas, held, { adapters: 2 }),
    quotaError(/3 adapters, has 2, .* 2; delete one/),
  );
  assert.throws(
    () => checkQuotas(quotas, held, { bytes: 11 }),
    quotaError(/100 stored bytes, has 90, .* 11;/),
  );
  assert.throws(() => checkQuotas({ ...quotas, jobs: 0 }, held, { jobs: 1 }), quotaError(/0 jobs/));
});

test('a quota below what there is refuses only what adds to it', () => {
  const held = { adapters: 5, bytes: 500, jobs: 5 };
  checkQuotas({ adapters: 1, bytes: 1, jobs: 1 }, held, { adapters: 0 });
  assert.throws(
    () => checkQuotas({ adapters: 1, bytes: 1, jobs: 1 }, held, { adapters: 1 }),
    quotaError(/has 5/),
  );
});

test('what several holders tell adds up, and an unknown tenant gets nothing', async () => {
  const check = createQuotaCheck(
    (tenant) => (tenant === 'acme' ? { adapters: null, bytes: 100, jobs: 1 } : null),
    [async () => ({ adapters: 1, bytes: 40 }), async () => ({ jobs: 0, bytes: 50 })],
  );
  await check('acme', 'bytes', 10);
  await check('acme', 'adapters', 1000);
  await check('acme', 'jobs', 1);
  await assert.rejects(check('acme', 'bytes', 11), quotaError(/has 90/));
  await assert.rejects(check('nobody', 'jobs', 1), quotaError(/0 jobs/));
});
