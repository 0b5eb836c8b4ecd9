// GET /v1/admin/usage: requests and tokens, summed by any of tenant, adapter and day.

import { z } from '@hono/zod-openapi';
import { USAGE_KEYS, type UsageKey, type UsageRow } from '../../tenants/usage.js';
import { string } from '../openai/fields.js';
import { unexpected } from '../request-body.js';
import { readQuery } from '../request-query.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute } from './document.js';

const PATH = '/v1/admin/usage';
const DAY_PHRASE = 'a day as in 2026-01-31';

const day = () => z.iso.date(DAY_PHRASE).optional();
const usageQuery = z.strictObject({
  tenant: string().optional(),
  adapter: string().optional(),
  from: day(),
  to: day(),
  /** Words with commas between them. */
  group_by: string().optional(),
});

export function registerAdminUsageRoute(app: ServerApp, { tenants }: Services): void {
  documentRoute(app, 'get', PATH, 'Requests and tokens by tenant, adapter and day', { query: usageQuery });
  app.get(PATH, async (c) => {
    const {
      tenant = null,
      adapter = null,
      from = null,
      to = null,
      group_by: words,
    } = readQuery(c, usageQuery);
    const groupBy = words === undefined ? USAGE_KEYS : toKeys(words);
    const rows = await tenants.usage.sum({ tenant, adapter, from, to, groupBy });
    return c.json({ object: 'list', data: rows.map((row) => usageObject(row, groupBy)) });
  });
}

/** Throws invalid_value. */
function toKeys(words: string): readonly UsageKey[] {
  return words.split(',').map((word) => {
    const key = USAGE_KEYS.find((known) => known === word);
    if (key === undefined) throw unexpected('group_by', `one or more of ${USAGE_KEYS.join(', ')}`, word);
    return key;
  });
}

/** What the sums are not told apart by is absent; an adapter that is null is the base. */
function usageObject(row: UsageRow, groupBy: readonly UsageKey[]): object {
  const keys = groupBy.map((key) => [key, key === 'adapter' && row.adapter === '' ? null : row[key]]);
  return {
    object: 'usage',
    ...Object.fromEntries(keys),
    requests: row.requests,
    prompt_tokens: row.promptTokens,
    cached_tokens: row.cachedTokens,
    completion_tokens: row.completionTokens,
  };
}
