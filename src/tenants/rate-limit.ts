// Rate limits by token buckets: a bucket holds a minute's allowance and fills at an even rate. Kept in memory, each process its own: a
// restart begins with full buckets.

import type { RateLimits } from './types.js';

/** What a client is told of one limit. */
export interface LimitState {
  readonly limit: number;
  /** Never below 0. */
  readonly remaining: number;
  /** Until it is whole again, in milliseconds. */
  readonly resetMs: number;
}

export interface Verdict {
  /** 0 where it was taken, else how long to wait, in milliseconds; nothing was taken then. */
  readonly waitMs: number;
  /** At most a whole bucket. */
  readonly taken: number;
}

export type LimitKind = 'requests' | 'tokens';

export interface RateLimiter {
  /**
   * Takes `amount`, at most a whole bucket: what costs more waits for a full one and leaves a debt when the rest is taken by give(), so that
   * the rate holds over time and nothing is refused for ever.
   */
  take(tenant: string, kind: LimitKind, limits: RateLimits, amount: number): Verdict;
  /** Gives back what was taken and not used; below 0, takes what was used beyond it. */
  give(tenant: string, kind: LimitKind, limits: RateLimits, amount: number): void;
  /** Null without a limit. */
  state(tenant: string, kind: LimitKind, limits: RateLimits): LimitState | null;
}

interface Bucket {
  /** Below 0 is a debt. */
  level: number;
  capacity: number;
  atMs: number;
}

const MINUTE_MS = 60_000;

/** @param clock milliseconds that only grow */
export function createRateLimiter(clock: () => number): RateLimiter {
  const buckets = new Map<string, Bucket>();

  /** As full as it is by now; null without a limit, whose bucket is forgotten. */
  function bucketOf(tenant: string, kind: LimitKind, limits: RateLimits): Bucket | null {
    const key = `${kind} ${tenant}`;
    const capacity = kind === 'requests' ? limits.requestsPerMinute : limits.tokensPerMinute;
    if (capacity === null) {
      buckets.delete(key);
      return null;
    }
    const now = clock();
    const bucket = buckets.get(key) ?? { level: capacity, capacity, atMs: now };
    buckets.set(key, bucket);
    // A clock that was set back fills nothing, and takes nothing away.
    const gained = (bucket.capacity * Math.max(0, now - bucket.atMs)) / MINUTE_MS;
    bucket.level = Math.min(capacity, bucket.level + gained);
    bucket.capacity = capacity;
    bucket.atMs = now;
    return bucket;
  }

  return {
    take(tenant, kind, limits, amount) {
      const bucket = bucketOf(tenant, kind, limits);
      if (bucket === null) return { waitMs: 0, taken: 0 };
      const cost = Math.min(amount, bucket.capacity);
      const missing = cost - bucket.level;
      // Adding up fractions of a millisecond leaves a full bucket a hair below full.
      if (missing > 1e-6) return { waitMs: Math.ceil((missing * MINUTE_MS) / bucket.capacity), taken: 0 };
      bucket.level -= cost;
      return { waitMs: 0, taken: cost };
    },
    give(tenant, kind, limits, amount) {
      const bucket = bucketOf(tenant, kind, limits);
      if (bucket !== null) bucket.level = Math.min(bucket.capacity, bucket.level + amount);
    },
    state(tenant, kind, limits) {
      const bucket = bucketOf(tenant, kind, limits);
      if (bucket === null) return null;
      const missing = Math.max(0, bucket.capacity - bucket.level);
      return {
        limit: bucket.capacity,
        remaining: Math.max(0, Math.floor(bucket.level + 1e-6)),
        resetMs: Math.ceil((missing * MINUTE_MS) / bucket.capacity),
      };
    },
  };
}
