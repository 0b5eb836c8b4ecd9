// What each tenant used, for the operator: /metrics asks for an admin key as soon as there is any key. Adapters' names are no labels here,
// and tenants are as many as the operator made.

import { Counter, type Registry } from 'prom-client';
import type { LimitKind } from '../tenants/rate-limit.js';
import type { UsageCount } from '../tenants/usage.js';

export interface TenantMetrics {
  used(tenant: string, count: UsageCount): void;
  refused(tenant: string, limit: LimitKind): void;
}

export function createTenantMetrics(registry: Registry): TenantMetrics {
  const registers = [registry];
  const requests = new Counter({
    name: 'tenant_requests_total',
    help: 'Generation requests that ended, by tenant',
    labelNames: ['tenant'],
    registers,
  });
  const tokens = new Counter({
    name: 'tenant_tokens_total',
    help: 'Tokens by tenant and kind: prompt (the cached ones too), cached, completion',
    labelNames: ['tenant', 'kind'],
    registers,
  });
  const refusals = new Counter({
    name: 'tenant_rate_limited_total',
    help: 'Generation requests refused by a rate limit, by tenant and limit: requests, tokens',
    labelNames: ['tenant', 'limit'],
    registers,
  });
  return {
    used(tenant, { requests: count, promptTokens, cachedTokens, completionTokens }) {
      requests.inc({ tenant }, count);
      tokens.inc({ tenant, kind: 'prompt' }, promptTokens);
      tokens.inc({ tenant, kind: 'cached' }, cachedTokens);
      tokens.inc({ tenant, kind: 'completion' }, completionTokens);
    },
    refused: (tenant, limit) => refusals.inc({ tenant, limit }),
  };
}
