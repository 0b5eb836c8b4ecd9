// /v1/admin/keys: create, list, rotate and revoke API keys. A key itself is in the answer that makes it, and in no other.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { keyState } from '../../tenants/keys.js';
import { type ApiKey, type NewApiKey, SCOPES } from '../../tenants/types.js';
import { integerIn, string } from '../openai/fields.js';
import { limitBody, readJson } from '../request-body.js';
import { readQuery } from '../request-query.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

const PATH = '/v1/admin/keys';
const MAX_OVERLAP_S = 366 * 24 * 3600;
const SCOPES_PHRASE = `a list of one or more of ${SCOPES.join(', ')}`;

const keyRequest = z.strictObject({
  tenant: string(),
  name: string().optional(),
  scopes: z.array(z.enum(SCOPES, SCOPES_PHRASE), SCOPES_PHRASE).min(1, SCOPES_PHRASE),
  /** Unix seconds; never, where it is absent. */
  expires_at: integerIn(0).optional(),
});
const rotateRequest = z.strictObject({
  /** How long the old key is accepted beside the new one. */
  overlap_seconds: integerIn(0, MAX_OVERLAP_S).optional(),
});
const listQuery = z.strictObject({ tenant: string().optional() });

export function registerAdminKeyRoutes(app: ServerApp, { tenants, clock }: Services): void {
  const limit = limitBody(MAX_JSON_BYTES);
  const now = () => Math.floor(clock() / 1000);
  const shownOnce = (c: Context, key: NewApiKey) => {
    c.header('cache-control', 'no-store');
    return c.json({ ...keyObject(key, now()), key: key.secret }, 201);
  };
  documentRoute(app, 'post', PATH, 'Create an API key, which is shown once', {
    body: keyRequest,
    status: 201,
  });
  app.post(PATH, limit, async (c) => {
    const { tenant, name = '', scopes, expires_at: expiresAt = null } = await readJson(c, keyRequest);
    return shownOnce(c, await tenants.createKey({ tenant, name, scopes, expiresAt }));
  });
  documentRoute(app, 'get', PATH, 'List the API keys, without the keys themselves', { query: listQuery });
  app.get(PATH, async (c) => {
    const { tenant = null } = readQuery(c, listQuery);
    const keys = await tenants.listKeys(tenant);
    return c.json({ object: 'list', data: keys.map((key) => keyObject(key, now())) });
  });
  documentRoute(app, 'post', `${PATH}/{key}/rotate`, 'Make a new key in the place of one', {
    body: rotateRequest,
    status: 201,
  });
  app.post(`${PATH}/:key/rotate`, limit, async (c) => {
    const { overlap_seconds: overlapS = 0 } = await readJson(c, rotateRequest);
    return shownOnce(c, await tenants.rotateKey(c.req.param('key'), overlapS));
  });
  documentRoute(app, 'delete', `${PATH}/{key}`, 'Revoke an API key at once');
  app.delete(`${PATH}/:key`, async (c) => {
    return c.json(keyObject(await tenants.revokeKey(c.req.param('key')), now()));
  });
}

function keyObject(key: ApiKey, now: number): object {
  return {
    id: key.id,
    object: 'api_key',
    tenant: key.tenant,
    name: key.name,
    prefix: key.prefix,
    scopes: key.scopes,
    status: keyState(key, now),
    created_at: key.createdAt,
    expires_at: key.expiresAt,
    revoked_at: key.revokedAt,
    last_used_at: key.lastUsedAt,
    rotated_to: key.rotatedTo,
  };
}
