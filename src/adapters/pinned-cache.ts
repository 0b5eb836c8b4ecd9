// Loaded values under a byte budget, with pins. lru-cache keeps what nobody uses and forgets the least recently used; what is pinned or
// loading lives outside of it, so that it cannot be evicted, and still counts against the budget. Knows nothing of adapters.

import { LRUCache } from 'lru-cache';
import { assert } from '../errors.js';

export interface Sized {
  readonly sizeBytes: number;
}

export interface Pin<V> {
  readonly value: V;
  /** Exactly once. */
  release(): void;
}

export interface CacheUsage {
  readonly budgetBytes: number;
  readonly pinnedBytes: number;
  readonly idleBytes: number;
  readonly freeBytes: number;
  /** By how much the pinned values exceed the budget: pinned + idle + free = budget + over. */
  readonly overBytes: number;
}

export interface CacheRow {
  readonly key: string;
  /** A name under which it was acquired; one row for each. */
  readonly label: string;
  readonly sizeBytes: number;
  readonly pins: number;
}

export interface PinnedCache<V extends Sized> {
  /** Pins the value, loading it if needed: one load, shared by all that wait for it; a failed load is forgotten. */
  acquire(key: string, label: string, load: () => Promise<V>): Promise<Pin<V>>;
  /** Whether it is pinned or being loaded. */
  isHeld(key: string): boolean;
  /** Drops it: at once where nobody holds it, else when the last pin goes (unless it is acquired again before). */
  retire(key: string): void;
  rows(): readonly CacheRow[];
  usage(): CacheUsage;
}

interface Entry<V> {
  value: V | null;
  loading: Promise<V>;
  pins: number;
  readonly pinsByLabel: Map<string, number>;
  retired: boolean;
}

export function createPinnedCache<V extends Sized>(budgetBytes: number): PinnedCache<V> {
  assert(Number.isSafeInteger(budgetBytes) && budgetBytes > 0, `a cache of ${budgetBytes} bytes`);
  const held = new Map<string, Entry<V>>();
  const idle = new LRUCache<string, Entry<V>>({ maxSize: budgetBytes, sizeCalculation: sizeOf });
  let pinnedBytes = 0;

  function hold(key: string, load: () => Promise<V>): Entry<V> {
    const known = held.get(key) ?? idle.get(key);
    if (known !== undefined) {
      if (idle.delete(key)) pinnedBytes += sizeOf(known);
      held.set(key, known);
      return known;
    }
    const loading = load();
    const entry: Entry<V> = { value: null, loading, pins: 0, pinsByLabel: new Map(), retired: false };
    held.set(key, entry);
    entry.loading = loading.then(
      (value) => {
        entry.value = value;
        pinnedBytes += sizeOf(entry);
        trim();
        return value;
      },
      (error: unknown) => {
        held.delete(key);
        throw error;
      },
    );
    return entry;
  }

  function trim(): void {
    while (idle.size > 0 && pinnedBytes + idle.calculatedSize > budgetBytes) idle.pop();
  }

  function unpin(key: string, entry: Entry<V>, label: string): void {
    entry.pins--;
    entry.pinsByLabel.set(label, entry.pinsByLabel.get(label)! - 1);
    if (entry.pins > 0) return;
    held.delete(key);
    pinnedBytes -= sizeOf(entry);
    if (!entry.retired) idle.set(key, entry);
    trim();
  }

  return {
    async acquire(key, label, load) {
      const entry = hold(key, load);
      entry.retired = false;
      entry.pins++;
      entry.pinsByLabel.set(label, (entry.pinsByLabel.get(label) ?? 0) + 1);
      const value = await entry.loading;
      let isReleased = false;
      const release = () => {
        assert(!isReleased, `${key} was released twice by one holder`);
        isReleased = true;
        unpin(key, entry, label);
      };
      return { value, release };
    },
    isHeld: (key) => held.has(key),
    retire(key) {
      idle.delete(key);
      const entry = held.get(key);
      if (entry !== undefined) entry.retired = true;
    },
    rows() {
      const entries = [...held, ...idle.entries()].filter(([, entry]) => entry.value !== null);
      return entries.flatMap(([key, entry]) =>
        [...entry.pinsByLabel].map(([label, pins]) => ({ key, label, sizeBytes: sizeOf(entry), pins })),
      );
    },
    usage() {
      const idleBytes = idle.calculatedSize;
      const used = pinnedBytes + idleBytes;
      const freeBytes = Math.max(0, budgetBytes - used);
      return { budgetBytes, pinnedBytes, idleBytes, freeBytes, overBytes: Math.max(0, used - budgetBytes) };
    },
  };
}

function sizeOf(entry: Entry<Sized>): number {
  assert(entry.value !== null && entry.value.sizeBytes > 0, 'a value without a size');
  return entry.value.sizeBytes;
}
