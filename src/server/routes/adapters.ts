// /v1/adapters: upload, list, show and delete PEFT adapters.

import { z } from '@hono/zod-openapi';
import { GatewayError } from '../../errors.js';
import { readUpload } from '../adapter-upload.js';
import { adapterObject } from '../openai/adapter-object.js';
import { limitBody } from '../request-body.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute } from './document.js';

const uploadForm = z.object({
  name: z.string(),
  file: z.any().meta({ type: 'array', items: { type: 'string', format: 'binary' } }),
});

export function registerAdapterRoutes(app: ServerApp, services: Services): void {
  const { adapters } = services;
  documentRoute(app, 'post', '/v1/adapters', 'Upload a PEFT adapter, or a new version of one', {
    body: uploadForm,
    bodyType: 'multipart/form-data',
    status: 201,
  });
  app.post('/v1/adapters', limitBody(services.limits.maxUploadBytes), async (c) => {
    const { name, files } = await readUpload(c, services.readArchive);
    checkNotBase(name, services, 'name');
    const info = await adapters.register(name, files);
    c.header('location', `/v1/adapters/${encodeURIComponent(name)}`);
    return c.json(adapterObject(info), 201);
  });
  documentRoute(app, 'get', '/v1/adapters', 'List the adapters');
  app.get('/v1/adapters', async (c) => {
    return c.json({ object: 'list', data: (await adapters.list()).map(adapterObject) });
  });
  documentRoute(app, 'get', '/v1/adapters/{name}', 'Show an adapter');
  app.get('/v1/adapters/:name{.+}', async (c) => {
    const name = c.req.param('name');
    const info = await adapters.get(name);
    if (info === null) throw adapterNotFound(name);
    return c.json(adapterObject(info));
  });
  documentRoute(app, 'delete', '/v1/adapters/{name}', 'Delete an adapter; requests under way finish');
  app.delete('/v1/adapters/:name{.+}', async (c) => {
    const name = c.req.param('name');
    if (!(await adapters.remove(name))) throw adapterNotFound(name);
    return c.json({ id: name, object: 'adapter', deleted: true });
  });
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
