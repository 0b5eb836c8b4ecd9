// The one table of options, put together from cli/options/. Config's type, flags, environment names, file keys, --help and
// docs/configuration.md are all derived from it; where values come from and how they are checked is in cli/read-config.ts.
import { BENCH, CHAT, CONNECTION } from './cli/options/clients.js';
import { KEYS, TENANTS } from './cli/options/keys-and-tenants.js';
import { OFFLINE } from './cli/options/offline.js';
import type { Command, NamedPath, Option } from './cli/options/option.js';
import { SERVE_ADAPTERS } from './cli/options/serve-adapters.js';
import { SERVE_TRAINING } from './cli/options/serve-training.js';
import { SERVE } from './cli/options/serve.js';

/** In the order of --help. The key in kebab case is the flag and the file key; GRAFT_ and upper case is the environment name. */
export const OPTIONS = {
  ...SERVE,
  ...SERVE_ADAPTERS,
  ...SERVE_TRAINING,
  ...OFFLINE,
  ...CONNECTION,
  ...KEYS,
  ...TENANTS,
  ...CHAT,
  ...BENCH,
} as const satisfies Record<string, Option>;

type Options = typeof OPTIONS;
export type OptionKey = keyof Options;

/** What one option is in Config: its kind's type, and null only where nothing is the default. */
type Value<O extends Option> = O extends { kind: 'integer' }
  ? number | NullFallback<O>
  : O extends { kind: 'choice'; choices: readonly (infer C)[] }
    ? C
    : O extends { kind: 'switch' }
      ? boolean
      : O extends { kind: 'pairs' }
        ? readonly NamedPath[]
        : string | NullFallback<O>;
type NullFallback<O extends Option> = null extends O['fallback'] ? null : never;

/** The settings of one command, frozen. */
export type ConfigOf<C extends Command> = {
  readonly [K in OptionKey as C extends Options[K]['commands'][number] ? K : never]: Value<Options[K]>;
};

/** The settings of `serve`. */
export type Config = ConfigOf<'serve'>;

/** `prefillChunk` -> `prefill-chunk`: the key in a file and, mostly, the flag. */
export function fileKey(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export function flagName(key: OptionKey): string {
  const option: Option = OPTIONS[key];
  return option.flag ?? fileKey(key);
}

/** `prefillChunk` -> `GRAFT_PREFILL_CHUNK`. */
export function envName(key: string): string {
  return `GRAFT_${fileKey(key).replaceAll('-', '_').toUpperCase()}`;
}
