// What a key must be allowed for each route. A route that is in no row here cannot be served: createApp checks all of them.

import type { Scope } from '../tenants/types.js';

/** Any one of these scopes will do; empty is any key; null is nothing, not even a key. */
export type NeededScopes = readonly Scope[] | null;

interface Rule {
  /** Of the route as it was registered. */
  readonly prefix: string;
  readonly needs: NeededScopes;
  /** For GET and HEAD, where they need something else. */
  readonly reading?: NeededScopes;
}

/** The first whose prefix fits. Metrics are of all tenants, so they are the operator's. */
const RULES: readonly Rule[] = [
  { prefix: '/health', needs: null },
  { prefix: '/ready', needs: null },
  { prefix: '/openapi.json', needs: [] },
  { prefix: '/metrics', needs: ['admin'] },
  { prefix: '/v1/admin/', needs: ['admin'] },
  { prefix: '/v1/chat/completions', needs: ['chat'] },
  { prefix: '/v1/completions', needs: ['chat'] },
  { prefix: '/v1/models', needs: ['chat'] },
  { prefix: '/tokenize', needs: ['chat'] },
  { prefix: '/detokenize', needs: ['chat'] },
  { prefix: '/v1/adapters', needs: ['adapters'], reading: ['adapters', 'chat'] },
  { prefix: '/v1/aliases', needs: ['adapters'], reading: ['adapters', 'chat'] },
  { prefix: '/v1/load_lora_adapter', needs: ['adapters'] },
  { prefix: '/v1/unload_lora_adapter', needs: ['adapters'] },
  { prefix: '/v1/files', needs: ['train'] },
  { prefix: '/v1/fine_tuning/', needs: ['train'] },
];

/** Undefined where no row has the route. */
export function neededScopes(method: string, route: string): NeededScopes | undefined {
  const rule = RULES.find(({ prefix }) =>
    prefix.endsWith('/') ? route.startsWith(prefix) : route === prefix || route.startsWith(`${prefix}/`),
  );
  const isReading = method === 'GET' || method === 'HEAD';
  return isReading && rule?.reading !== undefined ? rule.reading : rule?.needs;
}
