// How a tenant is told that it has no such adapter, or that it may not change it. None of them tells whether another tenant has one.

import { GatewayError } from '../errors.js';
import type { AdapterVersion } from './registry.js';

/** @param otherBase for which the tenant has the name */
export function modelNotFound(reference: string, otherBase?: string, param = 'model'): GatewayError {
  const hint =
    otherBase === undefined
      ? 'register it, or see the list of models'
      : `it is registered for the base ${otherBase}`;
  return new GatewayError(
    'model_not_found',
    `The model ${JSON.stringify(reference)} does not exist; ${hint}`,
    {
      param,
    },
  );
}

export function notOwn(reference: string, owner: string): GatewayError {
  return new GatewayError(
    'not_permitted',
    `The adapter \`${reference}\` belongs to the tenant \`${owner}\`, which shares it; only its owner may change or delete it`,
    { param: 'name' },
  );
}

export function withoutVersion(reference: string): GatewayError {
  return new GatewayError(
    'invalid_value',
    `Expected \`name\` to be a name, got \`${reference}\`, which is one of its versions; versions cannot be changed or deleted one by one`,
    { param: 'name' },
  );
}

/** @param wanted null is the one before the current one */
export function noSuchVersion(
  name: string,
  wanted: number | null,
  current: number,
  versions: readonly AdapterVersion[],
): GatewayError {
  const kept = versions.map(({ info }) => info.version).toSorted((a, b) => a - b);
  const what = wanted === null ? `no version before ${current}, the current one` : `no version ${wanted}`;
  return new GatewayError('not_found', `The adapter \`${name}\` has ${what}; it has ${kept.join(', ')}`, {
    param: 'version',
  });
}
