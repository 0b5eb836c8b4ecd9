// Usage: requests and tokens for each tenant, adapter and day, and when a key was last used. Added up in memory and written in batches, so
// that no request waits for the disk. A crash loses at most the last second; an orderly end loses nothing.

import type { TenantDatabase } from './tables.js';

export interface UsageCount {
  readonly requests: number;
  readonly promptTokens: number;
  /** Of the prompt's, those that a cache saved. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
}

export interface UsageRow extends UsageCount {
  /** Null where the sum is over all, as for the two below. */
  readonly tenant: string | null;
  /** '' is the base. */
  readonly adapter: string | null;
  /** UTC, as 2026-01-31. */
  readonly day: string | null;
}

export type UsageKey = 'tenant' | 'adapter' | 'day';
export const USAGE_KEYS = ['tenant', 'adapter', 'day'] as const satisfies readonly UsageKey[];

export interface UsageQuery {
  readonly tenant: string | null;
  readonly adapter: string | null;
  /** Days, both included. */
  readonly from: string | null;
  readonly to: string | null;
  /** What the sums are told apart by. */
  readonly groupBy: readonly UsageKey[];
}

export interface UsageLedger {
  /** @param adapter '' is the base */
  record(tenant: string, adapter: string, count: UsageCount): void;
  keyUsed(keyId: string): void;
  /** Everything recorded so far is durable on return. */
  flush(): Promise<void>;
  /** In the order of day, tenant, adapter. With everything recorded so far. */
  sum(query: UsageQuery): Promise<readonly UsageRow[]>;
}

interface Batch {
  /** By tenant, adapter and day as JSON. */
  readonly counts: Map<string, UsageCount>;
  /** Unix seconds by key. */
  readonly usedKeys: Map<string, number>;
}

const FLUSH_INTERVAL_MS = 1_000;

/** @param onFailure told where a batch could not be written; it is kept for the next attempt */
export function createUsageLedger(
  db: TenantDatabase,
  clock: () => number,
  onFailure: (error: unknown) => void,
): UsageLedger {
  let batch = newBatch();
  let timer: NodeJS.Timeout | null = null;
  let writing: Promise<void> = Promise.resolve();

  function schedule(): void {
    timer ??= setTimeout(() => void flush().catch(onFailure), FLUSH_INTERVAL_MS);
  }

  async function writeBatch(): Promise<void> {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    const taken = batch;
    if (taken.counts.size + taken.usedKeys.size === 0) return;
    batch = newBatch();
    try {
      await write(db, taken);
    } catch (error) {
      batch = merged(taken, batch);
      schedule();
      throw error;
    }
  }

  /** One batch after the other. */
  function flush(): Promise<void> {
    const run = writing.then(writeBatch);
    writing = run.catch(() => undefined);
    return run;
  }

  return {
    flush,
    record(tenant, adapter, count) {
      const day = new Date(clock()).toISOString().slice(0, 10);
      add(batch.counts, JSON.stringify([tenant, adapter, day]), count);
      schedule();
    },
    keyUsed(keyId) {
      batch.usedKeys.set(keyId, Math.floor(clock() / 1000));
      schedule();
    },
    async sum(query) {
      await flush();
      return sum(db, query);
    },
  };
}

function newBatch(): Batch {
  return { counts: new Map(), usedKeys: new Map() };
}

function add(counts: Map<string, UsageCount>, key: string, more: UsageCount): void {
  const before = counts.get(key);
  counts.set(key, before === undefined ? more : plus(before, more));
}

function plus(one: UsageCount, other: UsageCount): UsageCount {
  return {
    requests: one.requests + other.requests,
    promptTokens: one.promptTokens + other.promptTokens,
    cachedTokens: one.cachedTokens + other.cachedTokens,
    completionTokens: one.completionTokens + other.completionTokens,
  };
}

function merged(older: Batch, newer: Batch): Batch {
  const counts = new Map(older.counts);
  for (const [key, count] of newer.counts) add(counts, key, count);
  return { counts, usedKeys: new Map([...older.usedKeys, ...newer.usedKeys]) };
}

/** All of it or nothing: a batch that is written again counts once. */
async function write(db: TenantDatabase, { counts, usedKeys }: Batch): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    for (const [key, count] of counts) {
      const [tenant, adapter, day]: [string, string, string] = JSON.parse(key);
      await transaction
        .insertInto('usage')
        .values({
          tenant,
          adapter,
          day,
          requests: count.requests,
          prompt_tokens: count.promptTokens,
          cached_tokens: count.cachedTokens,
          completion_tokens: count.completionTokens,
        })
        .onConflict((conflict) =>
          conflict.columns(['tenant', 'adapter', 'day']).doUpdateSet((column) => ({
            requests: column('usage.requests', '+', count.requests),
            prompt_tokens: column('usage.prompt_tokens', '+', count.promptTokens),
            cached_tokens: column('usage.cached_tokens', '+', count.cachedTokens),
            completion_tokens: column('usage.completion_tokens', '+', count.completionTokens),
          })),
        )
        .execute();
    }
    for (const [id, usedAt] of usedKeys)
      await transaction.updateTable('api_keys').set({ last_used_at: usedAt }).where('id', '=', id).execute();
  });
}

async function sum(db: TenantDatabase, request: UsageQuery): Promise<readonly UsageRow[]> {
  const { tenant, adapter, from, to, groupBy } = request;
  let query = db
    .selectFrom('usage')
    .select(({ fn }) => [
      fn.sum<number>('requests').as('requests'),
      fn.sum<number>('prompt_tokens').as('promptTokens'),
      fn.sum<number>('cached_tokens').as('cachedTokens'),
      fn.sum<number>('completion_tokens').as('completionTokens'),
    ]);
  if (tenant !== null) query = query.where('tenant', '=', tenant);
  if (adapter !== null) query = query.where('adapter', '=', adapter);
  if (from !== null) query = query.where('day', '>=', from);
  if (to !== null) query = query.where('day', '<=', to);
  // Without a group, no rows would be one row of nulls.
  query = query.having(({ fn }) => fn.countAll(), '>', 0);
  const keys = ['day', 'tenant', 'adapter'] as const;
  let grouped = query.$castTo<UsageCount & { [K in UsageKey]?: string }>();
  for (const key of keys) if (groupBy.includes(key)) grouped = grouped.select(key).groupBy(key).orderBy(key);
  return (await grouped.execute()).map((row) => ({
    tenant: row.tenant ?? null,
    adapter: row.adapter ?? null,
    day: row.day ?? null,
    requests: row.requests,
    promptTokens: row.promptTokens,
    cachedTokens: row.cachedTokens,
    completionTokens: row.completionTokens,
  }));
}
