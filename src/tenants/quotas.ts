// Quotas: what a tenant may hold at most. Who holds what is counted where it is kept; the verdict is given here.

import { GatewayError } from '../errors.js';
import type { CheckQuota } from './check-quota.js';
import type { Quotas } from './types.js';

/** What a tenant has, or would add. */
export interface Holdings {
  /** Names registered. */
  readonly adapters: number;
  /** Of stored adapters and files of examples together. */
  readonly bytes: number;
  /** Jobs that have not ended. */
  readonly jobs: number;
}

const REMEDIES = {
  adapters: ['adapters', 'delete one'],
  bytes: ['stored bytes', 'delete adapters or files'],
  jobs: ['jobs that have not ended', 'wait for one to end, or cancel it'],
} as const;

/** Throws quota_exceeded where `added` does not fit beside `held`. What is not added is not judged: a lowered quota takes nothing away. */
export function checkQuotas(quotas: Quotas, held: Holdings, added: Partial<Holdings>): void {
  for (const kind of ['adapters', 'bytes', 'jobs'] as const) {
    const more = added[kind] ?? 0;
    const most = quotas[kind];
    if (most === null || more <= 0 || held[kind] + more <= most) continue;
    const [what, remedy] = REMEDIES[kind];
    throw new GatewayError(
      'quota_exceeded',
      `This tenant may have ${most} ${what}, has ${held[kind]}, and this would add ${more}; ${remedy}, or ask for a higher quota`,
    );
  }
}

/** Tells a part of what a tenant has. */
export type Holder = (tenant: string) => Promise<Partial<Holdings>>;

/** @param quotasOf null for a tenant that is not known, which is given nothing; what the holders tell adds up */
export function createQuotaCheck(
  quotasOf: (tenant: string) => Quotas | null,
  holders: readonly Holder[],
): CheckQuota {
  return async (tenant, kind, amount) => {
    const quotas = quotasOf(tenant) ?? { adapters: 0, bytes: 0, jobs: 0 };
    if (quotas[kind] === null) return;
    const parts = await Promise.all(holders.map((holder) => holder(tenant)));
    const sum = (what: keyof Holdings) => parts.reduce((total, part) => total + (part[what] ?? 0), 0);
    const held = { adapters: sum('adapters'), bytes: sum('bytes'), jobs: sum('jobs') };
    checkQuotas(quotas, held, { [kind]: amount });
  };
}
