// What adapters and training ask before a tenant gets more of something.

import type { Quotas } from './types.js';

/** Throws GatewayError where `amount` more does not fit. Asked while nobody else can add: what it counts is not changed meanwhile. */
export type CheckQuota = (tenant: string, kind: keyof Quotas, amount: number) => Promise<void>;
