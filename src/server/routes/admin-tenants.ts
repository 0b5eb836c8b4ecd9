// /v1/admin/tenants: create, list, show, change and delete tenants.

import { z } from '@hono/zod-openapi';
import { GatewayError } from '../../errors.js';
import { tenantNotFound } from '../../tenants/directory.js';
import type { Holdings } from '../../tenants/quotas.js';
import type { Tenant, TenantSettings } from '../../tenants/types.js';
import { integerIn, string } from '../openai/fields.js';
import { limitBody, readJson } from '../request-body.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

const PATH = '/v1/admin/tenants';
const MAX_PRIORITY = 1_000;

/** What is absent or null is without a limit. */
const settingsFields = {
  limits: z
    .strictObject(
      {
        requests_per_minute: integerIn(1).optional(),
        tokens_per_minute: integerIn(1).optional(),
      },
      'an object',
    )
    .optional(),
  quotas: z
    .strictObject(
      {
        adapters: integerIn(0).optional(),
        bytes: integerIn(0).optional(),
        jobs: integerIn(0).optional(),
      },
      'an object',
    )
    .optional(),
  priority: integerIn(-MAX_PRIORITY, MAX_PRIORITY).optional(),
};
const settingsRequest = z.strictObject(settingsFields);
const tenantRequest = z.strictObject({ name: string(), ...settingsFields });

export function registerAdminTenantRoutes(app: ServerApp, services: Services): void {
  const { tenants } = services;
  const limit = limitBody(MAX_JSON_BYTES);
  documentRoute(app, 'post', PATH, 'Create a tenant', { body: tenantRequest, status: 201 });
  app.post(PATH, limit, async (c) => {
    const { name, ...settings } = await readJson(c, tenantRequest);
    const tenant = await tenants.createTenant(name, toSettings(settings));
    c.header('location', `${PATH}/${name}`);
    return c.json(tenantObject(tenant), 201);
  });
  documentRoute(app, 'get', PATH, 'List the tenants');
  app.get(PATH, (c) => {
    return c.json({ object: 'list', data: tenants.access.tenants().map(tenantObject) });
  });
  documentRoute(app, 'get', `${PATH}/{tenant}`, 'Show a tenant');
  app.get(`${PATH}/:tenant`, async (c) => {
    const name = c.req.param('tenant');
    const tenant = tenants.access.tenant(name);
    if (tenant === null) throw tenantNotFound(name);
    return c.json({ ...tenantObject(tenant), held: await heldBy(services, name) });
  });
  documentRoute(app, 'put', `${PATH}/{tenant}`, 'Replace all settings of a tenant', {
    body: settingsRequest,
  });
  app.put(`${PATH}/:tenant`, limit, async (c) => {
    const settings = toSettings(await readJson(c, settingsRequest));
    return c.json(tenantObject(await tenants.updateTenant(c.req.param('tenant'), settings)));
  });
  documentRoute(app, 'delete', `${PATH}/{tenant}`, 'Delete a tenant and end its keys');
  app.delete(`${PATH}/:tenant`, async (c) => {
    const name = c.req.param('tenant');
    checkEmpty(name, await heldBy(services, name));
    await tenants.deleteTenant(name);
    return c.json({ id: name, object: 'tenant', deleted: true });
  });
}

async function heldBy({ adapters, training }: Services, tenant: string): Promise<Holdings> {
  const [shelf, jobs] = await Promise.all([adapters.holdings(tenant), training.holdings(tenant)]);
  return {
    adapters: shelf.numAdapters,
    bytes: shelf.sizeBytes + jobs.sizeBytes,
    jobs: jobs.numJobs,
  };
}

/** Nothing is deleted by the way. Throws invalid_value. */
function checkEmpty(tenant: string, { adapters, bytes, jobs }: Holdings): void {
  if (adapters + bytes + jobs === 0) return;
  throw new GatewayError(
    'invalid_value',
    `Expected the tenant \`${tenant}\` to hold nothing, got ${adapters} adapters, ${bytes} stored bytes and ${jobs} jobs that have not ended; delete them with a key of the tenant's first`,
    { param: 'tenant' },
  );
}

function toSettings(fields: z.infer<typeof settingsRequest>): TenantSettings {
  const { limits, quotas, priority = 0 } = fields;
  return {
    limits: {
      requestsPerMinute: limits?.requests_per_minute ?? null,
      tokensPerMinute: limits?.tokens_per_minute ?? null,
    },
    quotas: {
      adapters: quotas?.adapters ?? null,
      bytes: quotas?.bytes ?? null,
      jobs: quotas?.jobs ?? null,
    },
    priority,
  };
}

function tenantObject({ name, createdAt, limits, quotas, priority }: Tenant): object {
  return {
    id: name,
    object: 'tenant',
    name,
    created_at: createdAt,
    limits: {
      requests_per_minute: limits.requestsPerMinute,
      tokens_per_minute: limits.tokensPerMinute,
    },
    quotas,
    priority,
  };
}
