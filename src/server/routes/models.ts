// GET /v1/models: the base first, then every registered adapter, as model cards with vLLM's additions.

import type { AdapterInfo } from '../../adapters/types.js';
import { modelNotFound } from '../adapter-selection.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute } from './document.js';

const OWNER = 'local';

export function registerModelRoutes(app: ServerApp, services: Services): void {
  documentRoute(app, 'get', '/v1/models', 'List the base and the adapters');
  app.get('/v1/models', async (c) => {
    const adapters = await services.adapters.list();
    const data = [baseCard(services), ...adapters.map((info) => adapterCard(info, services))];
    return c.json({ object: 'list', data });
  });
  documentRoute(app, 'get', '/v1/models/{model}', 'Describe the base or an adapter');
  app.get('/v1/models/:model{.+}', async (c) => {
    const name = c.req.param('model');
    if (name === services.base.name) return c.json(baseCard(services));
    const info = await services.adapters.get(name);
    if (info === null) throw modelNotFound(name);
    return c.json(adapterCard(info, services));
  });
}

function baseCard({ base, maxModelLen }: Services): object {
  return {
    id: base.name,
    object: 'model',
    created: base.createdAt,
    owned_by: OWNER,
    root: base.source,
    parent: null,
    permission: [],
    max_model_len: maxModelLen,
    weights: base.weights,
    base_hash: base.baseHash,
  };
}

function adapterCard(info: AdapterInfo, { maxModelLen }: Services): object {
  return {
    id: info.name,
    object: 'model',
    created: info.createdAt,
    owned_by: OWNER,
    root: `sha256:${info.hash}`,
    parent: info.base,
    permission: [],
    max_model_len: maxModelLen,
  };
}
