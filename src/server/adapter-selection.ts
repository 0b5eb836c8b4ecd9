// `model` and `adapters` of a request as a pinned adapter. There is no fallback: an unknown name is a 404.

import type { AdapterLease } from '../adapters/types.js';
import { GatewayError } from '../errors.js';
import type { GenerationFields } from './openai/fields.js';
import { unexpected } from './request-body.js';
import type { Services } from './services.js';

type Selection = Pick<GenerationFields, 'model' | 'adapters'>;

/** Null is the base. The caller releases the lease. Throws model_not_found, unsupported_adapter, invalid_value. */
export async function acquireAdapter(
  { adapters, base }: Pick<Services, 'adapters' | 'base'>,
  { model, adapters: parts }: Selection,
): Promise<AdapterLease | null> {
  if (parts === undefined) {
    return model === base.name ? null : named('model', () => adapters.acquire(model));
  }
  if (model !== base.name) {
    throw unexpected('model', `the base \`${base.name}\` where \`adapters\` is given`, model);
  }
  const names = parts.map((part) => part.name);
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index);
  if (twice >= 0) throw unexpected(`adapters.${twice}.name`, 'named once', names[twice]);
  return named('adapters', () =>
    adapters.acquireCombination(parts.map(({ name, scale }) => ({ name, scale: scale ?? 1 }))),
  );
}

/** Throws model_not_found where neither the base nor an adapter has this name. */
export async function checkModel(
  { adapters, base }: Pick<Services, 'adapters' | 'base'>,
  model: string,
): Promise<void> {
  if (model !== base.name && (await adapters.get(model)) === null) throw modelNotFound(model);
}

export function modelNotFound(model: string): GatewayError {
  return new GatewayError(
    'model_not_found',
    `The model \`${model}\` does not exist; GET /v1/models lists those that do`,
    { param: 'model' },
  );
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
