// GET /v1/models: the base first, then what the caller's tenant may name beside it, as model cards with vLLM's additions: its aliases, its
// adapters, and those shared with it.

import type { Alias } from '../../adapters/protocol.js';
import type { AdapterInfo } from '../../adapters/types.js';
import { modelNotFound } from '../adapter-selection.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute } from './document.js';

const OWNER = 'local';

export function registerModelRoutes(app: ServerApp, services: Services): void {
  documentRoute(app, 'get', '/v1/models', 'List the base, the aliases and the adapters');
  app.get('/v1/models', async (c) => {
    const own = services.adapters.of(c.var.caller.tenant);
    const aliases = await own.aliases.list();
    // What has an alias's name is not what the name selects.
    const hidden = new Set(aliases.map(({ alias }) => alias));
    const adapters = (await own.list()).filter(({ name }) => !hidden.has(name));
    const cards = [
      ...aliases.map((alias) => aliasCard(alias, services)),
      ...adapters.map((info) => adapterCard(info, c.var.caller.tenant, services)),
    ];
    return c.json({ object: 'list', data: [baseCard(services), ...cards] });
  });
  documentRoute(app, 'get', '/v1/models/{model}', 'Describe the base, an alias or an adapter');
  app.get('/v1/models/:model{.+}', async (c) => {
    const name = c.req.param('model');
    if (name === services.base.name) return c.json(baseCard(services));
    const own = services.adapters.of(c.var.caller.tenant);
    const alias = await own.aliases.get(name);
    if (alias !== null) return c.json(aliasCard(alias, services));
    const info = await own.get(name);
    if (info === null) throw modelNotFound(name);
    return c.json(adapterCard(info, c.var.caller.tenant, services));
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

function adapterCard(info: AdapterInfo, tenant: string, { maxModelLen }: Services): object {
  return {
    id: info.name,
    object: 'model',
    created: info.createdAt,
    owned_by: info.owner === tenant ? OWNER : info.owner,
    root: `sha256:${info.hash}`,
    parent: info.base,
    permission: [],
    max_model_len: maxModelLen,
  };
}

/** `root` is what it stands for, as it was set. */
function aliasCard({ alias, targets, createdAt }: Alias, { base, maxModelLen }: Services): object {
  const [only, ...others] = targets;
  const split = targets.map(({ model, weight }) => `${model} ${weight}%`).join(', ');
  return {
    id: alias,
    object: 'model',
    created: createdAt,
    owned_by: OWNER,
    root: others.length === 0 ? only!.model : split,
    parent: base.name,
    permission: [],
    max_model_len: maxModelLen,
  };
}
