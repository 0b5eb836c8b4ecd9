// Who a request is for: its bearer key made the caller in every route's context, and refused where the route needs more than the key has.

import type { Context, Hono } from 'hono';
import { createMiddleware } from 'hono/factory';
import { routePath } from 'hono/route';
import { assert, GatewayError } from '../errors.js';
import type { TenantService } from '../tenants/service.js';
import { type Caller, DEFAULT_TENANT } from '../tenants/types.js';
import { neededScopes } from './route-scopes.js';
import type { ServerEnv } from './services.js';

/** Of a route that asks for no key. */
const NOBODY: Caller = { tenant: DEFAULT_TENANT, keyId: null, scopes: new Set(), priority: 0 };
const BEARER = /^bearer +(\S+)$/i;

export function callerOfRequest({ tenants }: { readonly tenants: TenantService }) {
  return createMiddleware<ServerEnv>(async function setCaller(c, next) {
    c.set('caller', await identify(c, tenants));
    await next();
  });
}

/** Throws invalid_api_key and not_permitted. A path that no route has needs a key too: whoever has none learns nothing. */
async function identify(c: Context<ServerEnv>, { access, usage }: TenantService): Promise<Caller> {
  // The last of those that fit is the route itself: the path as it was registered, not as a client may write it.
  const needs = neededScopes(c.req.method, routePath(c, -1));
  if (needs === null) return NOBODY;
  const caller = await access.identify(bearerKey(c));
  if (caller.keyId !== null) usage.keyUsed(caller.keyId);
  const { scopes } = caller;
  if (
    needs === undefined ||
    needs.length === 0 ||
    scopes.has('admin') ||
    needs.some((scope) => scopes.has(scope))
  )
    return caller;
  throw new GatewayError(
    'not_permitted',
    `${c.req.method} ${c.req.path} needs a key with the scope ${needs.join(' or ')}; this one has ${[...scopes].join(', ')}`,
  );
}

function bearerKey(c: Context): string | null {
  return BEARER.exec(c.req.header('authorization')?.trim() ?? '')?.[1] ?? null;
}

/** To be called after the last route: none may be without a rule of its own. */
export function checkScopesOf(app: Pick<Hono<ServerEnv>, 'routes'>): void {
  for (const { method, path } of app.routes) {
    if (path === '/*') continue;
    assert(neededScopes(method, path) !== undefined, `route-scopes.ts has no rule for ${method} ${path}`);
  }
}
