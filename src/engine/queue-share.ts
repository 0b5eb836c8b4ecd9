// Whose places in the queue are whose: when it is full, who holds the most makes room for who holds less.
//
// With N places and k tenants waiting, a tenant that holds fewer than floor(N / k) is never refused: the others then hold more than N / k
// each on average, so the fullest holds at least two more than it and gives one up. A tenant alone may use all N.

import type { FairClaim } from './types.js';

export type QueueHolder = Pick<FairClaim, 'tenant' | 'fairnessId'>;

/**
 * The one of `waiting`, oldest first, that gives its place to `arriving`: the newest of the tenant that holds most, or, where no tenant
 * holds more, of the arriving one's own fairness id that holds most. Null where the arriving one itself is refused.
 */
export function makesRoom<T extends QueueHolder>(waiting: readonly T[], arriving: QueueHolder): T | null {
  const tenantOf = ({ tenant }: QueueHolder): string => tenant;
  const idOf = ({ fairnessId }: QueueHolder): string => fairnessId ?? '';
  const tenants = groups(waiting, tenantOf);
  const own = tenants.get(arriving.tenant) ?? [];
  const other = fullest(tenants, own);
  if (other !== null) return fullest(groups(other, idOf), [])?.at(-1) ?? other.at(-1)!;
  const ids = groups(own, idOf);
  return fullest(ids, ids.get(idOf(arriving)) ?? [])?.at(-1) ?? null;
}

/** The largest group, if it stays at least as large as `own` after giving one place to it. */
function fullest<T>(all: ReadonlyMap<string, readonly T[]>, own: readonly T[]): readonly T[] | null {
  let most: readonly T[] | null = null;
  for (const group of all.values())
    if (group.length > Math.max(own.length + 1, most?.length ?? 0)) most = group;
  return most;
}

function groups<T>(items: readonly T[], keyOf: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  const made = new Map<string, T[]>();
  for (const item of items) {
    const group = made.get(keyOf(item));
    if (group === undefined) made.set(keyOf(item), [item]);
    else group.push(item);
  }
  return made;
}
