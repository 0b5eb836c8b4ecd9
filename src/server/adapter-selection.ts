// `model` and `adapters` of a request as a pinned adapter, through the eyes of the caller's tenant. There is no fallback: an unknown name
// is a 404, and so is an alias whose target has gone.

import { DEFAULT_ALIAS } from '../adapters/aliases.js';
import type { Alias, TenantAdapters } from '../adapters/protocol.js';
import { stickyPoint, targetAt } from '../adapters/traffic-split.js';
import type { AdapterLease } from '../adapters/types.js';
import { GatewayError } from '../errors.js';
import type { Caller } from '../tenants/types.js';
import type { GenerationFields } from './openai/fields.js';
import { unexpected } from './request-body.js';
import type { Services } from './services.js';

type Fields = Pick<GenerationFields, 'model' | 'adapters'>;
type Parts = Pick<Services, 'adapters' | 'base' | 'random'>;

export interface Selection {
  /** Null is the base. The caller releases it. */
  readonly lease: AdapterLease | null;
  /** What answers, with its version: what `model` came to. */
  readonly servedModel: string;
}

/** @param stickiness requests of one text go to one target of an alias; null draws. Throws model_not_found, unsupported_adapter, invalid_value. */
export async function acquireAdapter(
  { adapters, base, random }: Parts,
  { tenant }: Pick<Caller, 'tenant'>,
  { model, adapters: parts }: Fields,
  stickiness: string | null,
): Promise<Selection> {
  const own = adapters.of(tenant);
  if (parts !== undefined) return selection(await combination(own, base.name, model, parts), base.name);
  if (model === base.name) return selection(null, base.name);
  const alias = await own.aliases.get(model);
  if (alias === null) return selection(await named('model', () => acquireNamed(own, model)), base.name);
  const point = stickiness === null ? random() : stickyPoint([tenant, alias.alias, stickiness]);
  const target = targetAt(alias.targets, point).model;
  if (target === base.name) return selection(null, base.name);
  return selection(await named('model', () => acquireTarget(own, alias, target)), base.name);
}

/** Throws model_not_found where neither the base, an alias nor an adapter of the tenant's has this name. */
export async function checkModel(
  { adapters, base }: Pick<Services, 'adapters' | 'base'>,
  { tenant }: Pick<Caller, 'tenant'>,
  model: string,
): Promise<void> {
  const own = adapters.of(tenant);
  if (model === base.name || (await own.aliases.get(model)) !== null) return;
  if ((await own.get(model)) === null) throw modelNotFound(model);
}

export function modelNotFound(model: string): GatewayError {
  return new GatewayError(
    'model_not_found',
    `The model \`${model}\` does not exist; GET /v1/models lists those that do`,
    { param: 'model' },
  );
}

function selection(lease: AdapterLease | null, baseName: string): Selection {
  return { lease, servedModel: lease === null ? baseName : `${lease.info.name}@${lease.info.version}` };
}

async function combination(
  own: TenantAdapters,
  baseName: string,
  model: string,
  parts: NonNullable<Fields['adapters']>,
): Promise<AdapterLease> {
  if (model !== baseName) {
    throw unexpected('model', `the base \`${baseName}\` where \`adapters\` is given`, model);
  }
  const names = parts.map((part) => part.name);
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index);
  if (twice >= 0) throw unexpected(`adapters.${twice}.name`, 'named once', names[twice]);
  return named('adapters', () =>
    own.acquireCombination(parts.map(({ name, scale }) => ({ name, scale: scale ?? 1 }))),
  );
}

/** The default is an alias like any other, but people name it without having set it. */
async function acquireNamed(own: TenantAdapters, model: string): Promise<AdapterLease> {
  try {
    return await own.acquire(model);
  } catch (error) {
    if (model !== DEFAULT_ALIAS || !isNotFound(error)) throw error;
    throw new GatewayError(
      'model_not_found',
      `The alias \`${DEFAULT_ALIAS}\` is not set; set it with PUT /v1/aliases/${DEFAULT_ALIAS}, or name a model`,
      { param: 'model', cause: error },
    );
  }
}

async function acquireTarget(own: TenantAdapters, { alias }: Alias, target: string): Promise<AdapterLease> {
  try {
    return await own.acquire(target);
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw new GatewayError(
      'model_not_found',
      `The alias \`${alias}\` stands for \`${target}\`, which does not exist any more; set it again with PUT /v1/aliases/${alias}`,
      { param: 'model', cause: error },
    );
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'model_not_found';
}

/** Gives a failure the request field that it is about. */
async function named(param: string, acquire: () => Promise<AdapterLease>): Promise<AdapterLease> {
  try {
    return await acquire();
  } catch (error) {
    if (!(error instanceof GatewayError) || error.status >= 500 || error.param === param) throw error;
    throw new GatewayError(error.code, error.message, {
      param,
      cause: error,
      ...(error.retryAfterS === null ? {} : { retryAfterS: error.retryAfterS }),
    });
  }
}
