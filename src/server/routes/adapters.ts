// /v1/adapters: upload, list, show and delete PEFT adapters of the caller's tenant, go back to an earlier version, and share them.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { GatewayError } from '../../errors.js';
import { readUpload } from '../adapter-upload.js';
import { adapterDetailsObject, adapterObject } from '../openai/adapter-object.js';
import { integerIn } from '../openai/fields.js';
import { limitBody, parseBody, readJson } from '../request-body.js';
import type { ServerApp, ServerEnv, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

const uploadForm = z.object({
  name: z.string(),
  file: z.any().meta({ type: 'array', items: { type: 'string', format: 'binary' } }),
});
/** The version before the current one where it is absent. */
const rollbackRequest = z.strictObject({ version: integerIn(1).optional() });

export function registerAdapterRoutes(app: ServerApp, services: Services): void {
  const adaptersOf = adaptersOfCaller(services);
  documentRoute(app, 'post', '/v1/adapters', 'Upload a PEFT adapter, or a new version of one', {
    body: uploadForm,
    bodyType: 'multipart/form-data',
    status: 201,
  });
  app.post('/v1/adapters', limitBody(services.limits.maxUploadBytes), async (c) => {
    const { name, files } = await readUpload(c, services.readArchive);
    checkNotBase(name, services, 'name');
    const info = await adaptersOf(c).register(name, files);
    c.header('location', `/v1/adapters/${encodeURIComponent(name)}`);
    return c.json(adapterObject(info), 201);
  });
  documentRoute(app, 'get', '/v1/adapters', 'List the adapters');
  app.get('/v1/adapters', async (c) => {
    return c.json({ object: 'list', data: (await adaptersOf(c).list()).map(adapterObject) });
  });
  registerSharing(app, services);
  documentRoute(app, 'post', '/v1/adapters/{name}/rollback', 'Make an earlier version current', {
    body: rollbackRequest,
  });
  app.post('/v1/adapters/:name/rollback', limitBody(MAX_JSON_BYTES), async (c) => {
    const name = c.req.param('name');
    const { version = null } = hasBody(c)
      ? await readJson(c, rollbackRequest)
      : parseBody({}, rollbackRequest);
    const info = await adaptersOf(c).rollback(name, version);
    if (info === null) throw adapterNotFound(name);
    return c.json(adapterObject(info));
  });
  documentRoute(app, 'get', '/v1/adapters/{name}', 'Show an adapter and its versions');
  app.get('/v1/adapters/:name{.+}', async (c) => {
    const name = c.req.param('name');
    const adapters = adaptersOf(c);
    const info = await adapters.get(name);
    if (info === null) throw adapterNotFound(name);
    const [versions, grantees] = await Promise.all([adapters.versions(name), adapters.grantees(name)]);
    return c.json(adapterDetailsObject({ info, versions, grantees, merging: services.merging ?? null }));
  });
  documentRoute(app, 'delete', '/v1/adapters/{name}', 'Delete an adapter; requests under way finish');
  app.delete('/v1/adapters/:name{.+}', async (c) => {
    const name = c.req.param('name');
    if (!(await adaptersOf(c).remove(name))) throw adapterNotFound(name);
    return c.json({ id: name, object: 'adapter', deleted: true });
  });
}

/** Before the routes of a name alone, which may contain a slash. */
function registerSharing(app: ServerApp, services: Services): void {
  const adaptersOf = adaptersOfCaller(services);
  const path = '/v1/adapters/{name}/shares/{tenant}';
  documentRoute(app, 'put', path, 'Share an adapter with a tenant, or with all (`*`)');
  app.put('/v1/adapters/:name/shares/:tenant', async (c) => {
    const { name, tenant } = c.req.param();
    if (!(await adaptersOf(c).share(name, tenant))) throw adapterNotFound(name);
    return c.json({ object: 'adapter.share', name, tenant });
  });
  documentRoute(app, 'delete', path, 'Share it no longer; requests under way finish');
  app.delete('/v1/adapters/:name/shares/:tenant', async (c) => {
    const { name, tenant } = c.req.param();
    const adapters = adaptersOf(c);
    if (!(await adapters.unshare(name, tenant))) {
      if ((await adapters.grantees(name)) === null) throw adapterNotFound(name);
      throw new GatewayError('not_found', `The adapter \`${name}\` is not shared with \`${tenant}\``, {
        param: 'tenant',
      });
    }
    return c.json({ object: 'adapter.share', name, tenant, deleted: true });
  });
}

function adaptersOfCaller({ adapters }: Services) {
  return (c: Context<ServerEnv>) => adapters.of(c.var.caller.tenant);
}

function hasBody(c: Context): boolean {
  return c.req.header('transfer-encoding') !== undefined || c.req.raw.body !== null;
}

/** Throws adapter_exists where the name selects the base. */
export function checkNotBase(name: string, { base }: Services, param: string): void {
  if (name !== base.name) return;
  throw new GatewayError('adapter_exists', `\`${name}\` is the base's name; give the adapter another one`, {
    param,
  });
}

function adapterNotFound(name: string): GatewayError {
  return new GatewayError(
    'not_found',
    `No adapter \`${name}\` is registered; GET /v1/adapters lists those that are`,
    { param: 'name' },
  );
}
