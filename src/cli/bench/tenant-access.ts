// The tenants of a load: made through the admin routes of a server that has no key yet, each with a key and adapters of its own.
import { z } from 'zod';
import { bearer, RefusedRequest } from '../server-client.js';

export interface TenantAccess {
  readonly name: string;
  readonly key: string;
}

const made = z.object({ key: z.string() });

/** The first key closes the server to everybody without one, so it is the operator's. */
export async function createTenants(
  url: string,
  names: readonly string[],
): Promise<{ readonly operator: TenantAccess; readonly tenants: readonly TenantAccess[] }> {
  const operator = await createKey(url, null, 'default', ['admin', 'chat']);
  const tenants: TenantAccess[] = [];
  for (const name of names) {
    await postJson(url, '/v1/admin/tenants', operator.key, { name });
    tenants.push(await createKey(url, operator.key, name, ['chat', 'adapters']));
  }
  return { operator, tenants };
}

/** The status of a request for one token of `model`. */
export async function statusOf(url: string, { key }: TenantAccess, model: string): Promise<number> {
  const body = { model, messages: [{ role: 'user', content: 'hello' }], max_tokens: 1 };
  try {
    await postJson(url, '/v1/chat/completions', key, body);
    return 200;
  } catch (error) {
    if (error instanceof RefusedRequest) return error.status;
    throw error;
  }
}

async function createKey(
  url: string,
  key: string | null,
  tenant: string,
  scopes: readonly string[],
): Promise<TenantAccess> {
  const response = await postJson(url, '/v1/admin/keys', key, { tenant, name: 'bench', scopes });
  return { name: tenant, key: made.parse(await response.json()).key };
}

/** Throws RefusedRequest with what the server said. */
async function postJson(url: string, path: string, key: string | null, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json', ...(key === null ? {} : bearer(key)) };
  const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (response.ok) return response;
  throw new RefusedRequest(response.status, `${path}: ${(await response.text()).slice(0, 300)}`);
}
