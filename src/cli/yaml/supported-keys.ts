// The keys of a training file that are honoured: LLaMA-Factory's, with its defaults, and those of methods that it does not have.
// One table gives the types, the checks and the documentation.
import { DATA_KEYS } from './data-keys.js';
import { METHOD_KEYS } from './method-keys.js';
import { STEP_KEYS } from './step-keys.js';
import type { SupportedKey } from './supported-key.js';

/** In the order of the documentation. */
export const SUPPORTED_KEYS = { ...DATA_KEYS, ...STEP_KEYS, ...METHOD_KEYS };

type Keys = typeof SUPPORTED_KEYS;
type Value<K extends SupportedKey> = K extends { kind: 'text' }
  ? string | NullFallback<K>
  : K extends { kind: 'integer' | 'number' }
    ? number | NullFallback<K>
    : K extends { kind: 'switch' }
      ? boolean | NullFallback<K>
      : K extends { kind: 'choice'; choices: readonly (infer C)[] }
        ? C | NullFallback<K>
        : readonly string[] | NullFallback<K>;
type NullFallback<K> = K extends { required: true } ? never : K extends { fallback: null } ? null : never;

/** Every supported key's value, given or its default. */
export type KeyValues = { readonly [K in keyof Keys]: Value<Keys[K]> };
