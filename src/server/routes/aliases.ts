// /v1/aliases: names of the tenant's own that stand for a model, a version, or several by percentages. `default` is what a request means
// by the model `default`.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Alias, AliasTarget } from '../../adapters/protocol.js';
import { GatewayError } from '../../errors.js';
import { integerIn } from '../openai/fields.js';
import { limitBody, readJson, unexpected } from '../request-body.js';
import type { ServerApp, ServerEnv, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

const TARGETS = 'a list of {model, weight} whose weights make 100';
const model = () => z.string('the name of the base or of an adapter, with @version for one of its versions');

const target = z.strictObject({ model: model(), weight: integerIn(0, 100) }, 'an object {model, weight}');
/** One of the two. */
const aliasRequest = z.strictObject({
  model: model().optional(),
  targets: z.array(target, TARGETS).min(1, TARGETS).optional(),
});

export function registerAliasRoutes(app: ServerApp, services: Services): void {
  const aliasesOf = (c: Context<ServerEnv>) => services.adapters.of(c.var.caller.tenant).aliases;
  documentRoute(app, 'get', '/v1/aliases', 'List the aliases');
  app.get('/v1/aliases', async (c) => {
    return c.json({ object: 'list', data: (await aliasesOf(c).list()).map(aliasObject) });
  });
  documentRoute(app, 'put', '/v1/aliases/{alias}', 'Set what an alias stands for', { body: aliasRequest });
  app.put('/v1/aliases/:alias', limitBody(MAX_JSON_BYTES), async (c) => {
    const targets = toTargets(await readJson(c, aliasRequest));
    return c.json(aliasObject(await aliasesOf(c).set(c.req.param('alias'), targets)));
  });
  documentRoute(app, 'get', '/v1/aliases/{alias}', 'Show an alias');
  app.get('/v1/aliases/:alias', async (c) => {
    const alias = await aliasesOf(c).get(c.req.param('alias'));
    if (alias === null) throw aliasNotFound(c.req.param('alias'));
    return c.json(aliasObject(alias));
  });
  documentRoute(app, 'delete', '/v1/aliases/{alias}', 'Delete an alias; what it stands for stays');
  app.delete('/v1/aliases/:alias', async (c) => {
    const alias = c.req.param('alias');
    if (!(await aliasesOf(c).remove(alias))) throw aliasNotFound(alias);
    return c.json({ id: alias, object: 'alias', deleted: true });
  });
}

function toTargets({ model: only, targets }: z.infer<typeof aliasRequest>): readonly AliasTarget[] {
  if (targets === undefined) {
    if (only === undefined) throw unexpected('model', 'given where `targets` is absent', only);
    return [{ model: only, weight: 100 }];
  }
  if (only !== undefined) throw unexpected('model', 'absent where `targets` is given', only);
  return targets;
}

function aliasObject({ alias, targets, createdAt, updatedAt }: Alias): object {
  return { id: alias, object: 'alias', targets, created_at: createdAt, updated_at: updatedAt };
}

function aliasNotFound(alias: string): GatewayError {
  return new GatewayError('not_found', `No alias \`${alias}\` is set; GET /v1/aliases lists those that are`, {
    param: 'alias',
  });
}
