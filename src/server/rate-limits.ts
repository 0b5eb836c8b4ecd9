// Rate limits of the generation routes: a request is counted before its body is read, its tokens are reserved once they are known. Each
// answer says what is left, in OpenAI's headers.

import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import { GatewayError } from '../errors.js';
import type { LimitKind } from '../tenants/rate-limit.js';
import type { RateLimits } from '../tenants/types.js';
import type { ServerEnv, Services } from './services.js';

const NO_LIMITS: RateLimits = { requestsPerMinute: null, tokensPerMinute: null };
const KINDS = ['requests', 'tokens'] as const satisfies readonly LimitKind[];

type Needed = Pick<Services, 'tenants' | 'tenantMetrics'>;

/** Throws rate_limit_exceeded where the tenant's requests of the minute are used up. */
export function limitRequests(services: Needed) {
  return createMiddleware<ServerEnv>(async function countRequest(c, next) {
    take(c, services, 'requests', 1);
    await next();
  });
}

export interface TokenReservation {
  /** Puts what was really used in the place of what was reserved. To be called once. */
  settle(numTokens: number): void;
}

/** Throws rate_limit_exceeded where the tenant's tokens of the minute do not suffice. */
export function reserveTokens(c: Context<ServerEnv>, services: Needed, numTokens: number): TokenReservation {
  const { tenant } = c.get('caller');
  const { limiter } = services.tenants;
  const taken = take(c, services, 'tokens', numTokens);
  return {
    settle: (numUsed) => limiter.give(tenant, 'tokens', limitsOf(services, tenant), taken - numUsed),
  };
}

function take(c: Context<ServerEnv>, services: Needed, kind: LimitKind, amount: number): number {
  const { tenant } = c.get('caller');
  const { tenants, tenantMetrics } = services;
  const limits = limitsOf(services, tenant);
  const { taken, waitMs } = tenants.limiter.take(tenant, kind, limits, amount);
  tell(c, services, tenant, limits);
  if (waitMs === 0) return taken;
  tenantMetrics.refused(tenant, kind);
  const limit = kind === 'requests' ? limits.requestsPerMinute : limits.tokensPerMinute;
  throw new GatewayError(
    'rate_limit_exceeded',
    `Rate limit reached for ${kind} per minute: limit ${limit}, requested ${amount}; try again in ${durationText(waitMs)}`,
    { retryAfterS: waitMs / 1000 },
  );
}

function tell(c: Context<ServerEnv>, { tenants }: Needed, tenant: string, limits: RateLimits): void {
  for (const kind of KINDS) {
    const state = tenants.limiter.state(tenant, kind, limits);
    if (state === null) continue;
    c.header(`x-ratelimit-limit-${kind}`, String(state.limit));
    c.header(`x-ratelimit-remaining-${kind}`, String(state.remaining));
    c.header(`x-ratelimit-reset-${kind}`, durationText(state.resetMs));
  }
}

function limitsOf({ tenants }: Needed, tenant: string): RateLimits {
  return tenants.access.tenant(tenant)?.limits ?? NO_LIMITS;
}

/** As OpenAI writes it: 12ms, 1s, 1.5s, 6m0s. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = (ms % 60_000) / 1000;
  return minutes === 0 ? `${seconds}s` : `${minutes}m${seconds}s`;
}
