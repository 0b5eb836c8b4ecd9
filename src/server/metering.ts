// What a generation costs its tenant: tokens are reserved for the most that it may take, and what it took is put in their place and into
// the usage when it has ended, however it ended.

import type { Context } from 'hono';
import type { GenerationPlan, Usage } from './generation-job.js';
import { reserveTokens } from './rate-limits.js';
import type { ServerEnv, Services } from './services.js';

/** One of the two is called, once. */
export interface Meter {
  /** It has ended: whole, cancelled or failed. */
  settle(usage: Usage): void;
  /** It never began. */
  release(): void;
}

/** @param adapter the name; '' is the base. Throws rate_limit_exceeded. */
export function openMeter(
  c: Context<ServerEnv>,
  services: Pick<Services, 'tenants' | 'tenantMetrics'>,
  plan: GenerationPlan,
  adapter: string,
): Meter {
  const { tenant } = c.get('caller');
  const { tenants, tenantMetrics } = services;
  const reservation = reserveTokens(c, services, mostTokens(plan));
  return {
    settle({ numPromptTokens, numCachedTokens, numCompletionTokens }) {
      reservation.settle(numPromptTokens + numCompletionTokens);
      const count = {
        requests: 1,
        promptTokens: numPromptTokens,
        cachedTokens: numCachedTokens,
        completionTokens: numCompletionTokens,
      };
      tenants.usage.record(tenant, adapter, count);
      tenantMetrics.used(tenant, count);
    },
    release: () => reservation.settle(0),
  };
}

function mostTokens({ prompts, n }: GenerationPlan): number {
  return prompts.reduce((sum, { tokens, sampling }) => sum + tokens.length + n * sampling.maxTokens, 0);
}
