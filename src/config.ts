// The one table of options. Config's type, flags, environment names, file keys, --help and docs/configuration.md are all
// derived from it; where values come from and how they are checked is in cli/read-config.ts.
import { availableParallelism } from 'node:os';

export type Command =
  | 'serve'
  | 'pull'
  | 'convert'
  | 'adapters'
  | 'chat'
  | 'bench'
  | 'train'
  | 'plan'
  | 'export'
  | (typeof DATABASE_COMMANDS)[number];

interface Common {
  readonly help: string;
  /** Whose --help shows it. */
  readonly commands: readonly Command[];
  /** The flag, where it is not the name; two commands may use one flag for different options. */
  readonly flag?: string;
  /** The default in words, where it is no fixed value. */
  readonly fallbackWords?: string;
}

/** `fallback` is what holds when no source says anything; null is for what only the model or the server can tell. */
export type Option = Common &
  (
    | {
        readonly kind: 'integer';
        readonly min: number;
        readonly max: number;
        readonly fallback: number | null | (() => number);
      }
    | { readonly kind: 'choice'; readonly choices: readonly string[]; readonly fallback: string }
    /** `bare`: the flag alone means on. */
    | { readonly kind: 'switch'; readonly fallback: boolean; readonly bare?: true }
    | { readonly kind: 'text'; readonly placeholder: string; readonly fallback: string | null }
    /** A file or folder; absolute in Config, relative ones start at the working folder. */
    | { readonly kind: 'path'; readonly placeholder: string; readonly fallback: string | null }
    /** Repeatable NAME=PATH; the path is absolute in Config. */
    | { readonly kind: 'pairs'; readonly placeholder: string; readonly fallback: readonly NamedPath[] }
  );

export interface NamedPath {
  readonly name: string;
  readonly path: string;
}

export const DEFAULT_URL = 'http://127.0.0.1:8080';

/** They work on the data folder without a model or a server. */
const DATABASE_COMMANDS = [
  'keys create',
  'keys list',
  'keys rotate',
  'keys revoke',
  'tenants set',
  'tenants list',
] as const;

/** In the order of --help. The key in kebab case is the flag and the file key; GRAFT_ and upper case is the environment name. */
export const OPTIONS = {
  model: {
    kind: 'text',
    placeholder: 'MODEL',
    fallback: 'SmolLM2-135M-Instruct',
    help: 'the base: a catalog name, a folder of safetensors, a .gguf file, or a Hub id (owner/name, owner/name@revision, owner/name:file.gguf)',
    commands: ['serve', 'bench', 'export'],
  },
  weights: {
    kind: 'choice',
    choices: ['q4', 'q8', 'f32'],
    fallback: 'q4',
    help: "the base's weights: 4 bits (a GGUF's own 4-bit tensors stay exact), 8 bits, or 32-bit floats",
    commands: ['serve', 'pull', 'convert', 'bench', 'train', 'plan', 'export'],
  },
  adapter: {
    kind: 'pairs',
    placeholder: 'NAME=PATH',
    fallback: [],
    help: 'register the PEFT folder at PATH under NAME at start; repeatable',
    commands: ['serve'],
  },
  host: {
    kind: 'text',
    placeholder: 'HOST',
    fallback: '127.0.0.1',
    help: 'address to listen on; 0.0.0.0 is every network interface',
    commands: ['serve'],
  },
  port: {
    kind: 'integer',
    min: 0,
    max: 65_535,
    fallback: 8080,
    help: 'port to listen on; 0 picks a free one',
    commands: ['serve'],
  },
  slots: {
    kind: 'integer',
    min: 1,
    max: 256,
    fallback: 16,
    help: 'requests that run at once; each has room for a whole context of keys and values',
    commands: ['serve', 'bench'],
  },
  context: {
    kind: 'integer',
    min: 16,
    max: 1_048_576,
    fallback: null,
    help: 'longest prompt plus output, in tokens',
    fallbackWords: "the model's own, but at most 2048",
    commands: ['serve', 'bench'],
  },
  ropeScaling: {
    kind: 'text',
    placeholder: 'TYPE:FACTOR',
    fallback: null,
    help: "stretch positions to reach beyond the base's window, as linear:2, dynamic:2, yarn:4 or llama3:8; `context` then says how much is used",
    fallbackWords: "the checkpoint's own",
    commands: ['serve', 'export'],
  },
  prefillChunk: {
    kind: 'integer',
    min: 1,
    max: 8_192,
    fallback: 128,
    help: 'prompt tokens run between two steps of the running requests; more is faster for long prompts and stalls others longer',
    commands: ['serve', 'bench'],
  },
  queue: {
    kind: 'integer',
    min: 0,
    max: 100_000,
    fallback: 256,
    help: 'requests that may wait for a slot; beyond them the answer is 429 with Retry-After',
    commands: ['serve'],
  },
  dataDir: {
    kind: 'path',
    placeholder: 'FOLDER',
    fallback: './data',
    help: 'where models, adapters and the registry are kept',
    commands: ['serve', 'pull', 'convert', 'bench', 'train', 'plan', 'export', ...DATABASE_COMMANDS],
  },
  threads: {
    kind: 'integer',
    min: 1,
    max: 1_024,
    fallback: availableParallelism,
    help: 'threads that compute',
    fallbackWords: 'the number of cores',
    commands: ['serve', 'convert', 'bench', 'train', 'plan'],
  },
  adapterCacheMb: {
    kind: 'integer',
    min: 1,
    max: 1_048_576,
    fallback: 1_024,
    help: 'memory for loaded adapters, in MB; the least recently used go first, never one in use',
    commands: ['serve'],
  },
  merge: {
    kind: 'switch',
    fallback: true,
    help: 'while idle, merge the adapter that is asked for most into weights of its own; used only where checked and faster',
    commands: ['serve'],
  },
  mergeIdleSeconds: {
    kind: 'integer',
    min: 1,
    max: 86_400,
    fallback: 60,
    help: 'seconds without a request before a merge begins; a request stops it',
    commands: ['serve'],
  },
  mergeMaxKl: {
    kind: 'integer',
    min: 0,
    max: 1_000,
    fallback: 10,
    help: 'largest drift of merged weights: mean KL divergence from the unmerged path on probe prompts, in thousandths of a nat',
    commands: ['serve'],
  },
  mergeMinTop1: {
    kind: 'integer',
    min: 0,
    max: 100,
    fallback: 99,
    help: 'least agreement of merged weights on the most likely token, in percent of the probe positions that are clear of noise',
    commands: ['serve'],
  },
  mergeFreeMb: {
    kind: 'integer',
    min: 0,
    max: 1_048_576,
    fallback: 512,
    help: 'memory that must be free, in MB; with less, nothing is merged and merged weights are dropped',
    commands: ['serve'],
  },
  adapterVersions: {
    kind: 'integer',
    min: 1,
    max: 1_000,
    fallback: 5,
    help: 'versions of an adapter that are kept, the current one counted; those that an alias names are kept beyond it',
    commands: ['serve'],
  },
  maxUploadMb: {
    kind: 'integer',
    min: 1,
    max: 65_536,
    fallback: 512,
    help: 'largest upload of an adapter or of a file of examples, in MB',
    commands: ['serve'],
  },
  allowRuntimeLora: {
    kind: 'switch',
    fallback: false,
    bare: true,
    help: 'serve /v1/load_lora_adapter and /v1/unload_lora_adapter; needs runtime-lora-dir',
    commands: ['serve'],
  },
  runtimeLoraDir: {
    kind: 'path',
    placeholder: 'FOLDER',
    fallback: null,
    help: 'the only folder from which /v1/load_lora_adapter may load; needs allow-runtime-lora',
    fallbackWords: 'none',
    commands: ['serve'],
  },
  prefixCache: {
    kind: 'switch',
    fallback: true,
    help: 'keep the keys and values of earlier prompts and reuse them for prompts that begin alike',
    commands: ['serve', 'bench'],
  },
  loraPath: {
    kind: 'choice',
    choices: ['grouped', 'plain'],
    fallback: 'grouped',
    help: 'how adapters are computed: the optimised form, or the plain one that it is checked against',
    commands: ['serve', 'bench'],
  },
  trainThreads: {
    kind: 'integer',
    min: 1,
    max: 1_024,
    fallback: availableParallelism,
    help: 'threads of a training job; it computes at the lowest priority',
    fallbackWords: 'the number of cores',
    commands: ['serve'],
  },
  trainYield: {
    kind: 'switch',
    fallback: true,
    help: 'a training job waits while requests run',
    commands: ['serve'],
  },
  trainMinShare: {
    kind: 'integer',
    min: 0,
    max: 100,
    fallback: 10,
    help: 'share of the time, in percent, in which a training job goes on all the same while requests run; 0 stops it then',
    commands: ['serve'],
  },
  trainKeepDays: {
    kind: 'integer',
    min: 0,
    max: 36_500,
    fallback: 30,
    help: 'days that the folder of an ended training job is kept: checkpoints that are not served, and logs; the result of a full fine-tuning always stays',
    commands: ['serve'],
  },
  logLevel: {
    kind: 'choice',
    choices: ['error', 'warn', 'info', 'debug'],
    fallback: 'info',
    help: 'least severe messages that are logged',
    commands: ['serve'],
  },
  tokensPerSecond: {
    kind: 'integer',
    min: 1,
    max: 100_000_000,
    fallback: null,
    help: 'the rate of such a run, padding counted, from which its time follows',
    fallbackWords: 'estimated from a short measurement',
    commands: ['plan'],
  },
  out: {
    kind: 'path',
    placeholder: 'FOLDER',
    fallback: null,
    help: 'put the converted model into this new folder',
    fallbackWords: 'into the data folder, where serve finds it',
    commands: ['convert'],
  },
  report: {
    kind: 'path',
    placeholder: 'TEXTFILE',
    fallback: null,
    help: "print the text's perplexity under the source in 32-bit floats and under the converted weights, and their ratio",
    fallbackWords: 'no report',
    commands: ['convert'],
  },
  merged: {
    kind: 'switch',
    fallback: false,
    bare: true,
    help: 'write the base with the adapter merged into its weights, rather than the adapter as it is stored',
    commands: ['export'],
  },
  exportFormat: {
    kind: 'choice',
    choices: ['safetensors', 'gguf'],
    fallback: 'safetensors',
    flag: 'format',
    help: 'of a merged export: a folder for transformers, or a file for llama.cpp',
    commands: ['export'],
  },
  exportType: {
    kind: 'choice',
    choices: ['f32', 'f16', 'bf16', 'q8_0'],
    fallback: 'f32',
    flag: 'type',
    help: 'numbers of a merged export; f32 keeps them as they are merged, q8_0 is for gguf alone',
    commands: ['export'],
  },
  exportOut: {
    kind: 'path',
    placeholder: 'PATH',
    fallback: null,
    flag: 'out',
    help: 'the new folder, or the new .gguf file',
    fallbackWords: 'none; it must be given',
    commands: ['export'],
  },
  url: {
    kind: 'text',
    placeholder: 'URL',
    fallback: DEFAULT_URL,
    help: 'the running server',
    commands: ['adapters', 'chat'],
  },
  apiKey: {
    kind: 'text',
    placeholder: 'KEY',
    fallback: null,
    help: 'the key that the server asks for; better given in the environment, where others do not see it',
    fallbackWords: 'none',
    commands: ['adapters', 'chat', 'bench'],
  },
  keyTenant: {
    kind: 'text',
    placeholder: 'TENANT',
    fallback: 'default',
    flag: 'tenant',
    help: 'whose key it is',
    commands: ['keys create'],
  },
  keyName: {
    kind: 'text',
    placeholder: 'TEXT',
    fallback: null,
    flag: 'name',
    help: 'what it is for, for people',
    fallbackWords: 'none',
    commands: ['keys create'],
  },
  keyScopes: {
    kind: 'text',
    placeholder: 'SCOPE,...',
    fallback: 'chat',
    flag: 'scopes',
    help: 'what it may do: chat (generate), adapters (upload and delete), train (files and jobs), admin (everything of every tenant); with commas between them',
    commands: ['keys create'],
  },
  keyExpiresDays: {
    kind: 'integer',
    min: 1,
    max: 36_500,
    fallback: null,
    flag: 'expires-days',
    help: 'days until it is refused',
    fallbackWords: 'never',
    commands: ['keys create'],
  },
  keyListTenant: {
    kind: 'text',
    placeholder: 'TENANT',
    fallback: null,
    flag: 'tenant',
    help: 'only the keys of this tenant',
    fallbackWords: 'all',
    commands: ['keys list'],
  },
  keyOverlapMinutes: {
    kind: 'integer',
    min: 0,
    max: 527_040,
    fallback: 60,
    flag: 'overlap-minutes',
    help: 'how long the old key is accepted beside the new one',
    commands: ['keys rotate'],
  },
  tenantRequestsPerMinute: {
    kind: 'integer',
    min: -1,
    max: 1_000_000_000,
    fallback: null,
    flag: 'requests-per-minute',
    help: 'rate limit of generation requests; -1 lifts it',
    fallbackWords: 'stays as it is',
    commands: ['tenants set'],
  },
  tenantTokensPerMinute: {
    kind: 'integer',
    min: -1,
    max: 1_000_000_000_000,
    fallback: null,
    flag: 'tokens-per-minute',
    help: 'rate limit of prompt and completion tokens; -1 lifts it',
    fallbackWords: 'stays as it is',
    commands: ['tenants set'],
  },
  tenantMaxAdapters: {
    kind: 'integer',
    min: -1,
    max: 1_000_000_000,
    fallback: null,
    flag: 'max-adapters',
    help: 'adapters that it may have; -1 lifts the quota',
    fallbackWords: 'stays as it is',
    commands: ['tenants set'],
  },
  tenantMaxMb: {
    kind: 'integer',
    min: -1,
    max: 1_000_000_000,
    fallback: null,
    flag: 'max-mb',
    help: 'MB of adapters and files that it may store; -1 lifts the quota',
    fallbackWords: 'stays as it is',
    commands: ['tenants set'],
  },
  tenantMaxJobs: {
    kind: 'integer',
    min: -1,
    max: 1_000_000_000,
    fallback: null,
    flag: 'max-jobs',
    help: 'jobs that have not ended, that it may have at once; -1 lifts the quota',
    fallbackWords: 'stays as it is',
    commands: ['tenants set'],
  },
  tenantPriority: {
    kind: 'integer',
    min: -1_000,
    max: 1_000,
    fallback: null,
    flag: 'priority',
    help: 'of its requests for a slot: higher goes first',
    fallbackWords: 'stays as it is, 0 at first',
    commands: ['tenants set'],
  },
  chatModel: {
    kind: 'text',
    placeholder: 'NAME',
    fallback: null,
    flag: 'model',
    help: 'the base or an adapter, as /v1/models names it',
    fallbackWords: 'the base',
    commands: ['chat'],
  },
  system: {
    kind: 'text',
    placeholder: 'TEXT',
    fallback: null,
    help: 'system message',
    fallbackWords: "the chat template's own",
    commands: ['chat'],
  },
  benchOut: {
    kind: 'path',
    placeholder: 'FILE',
    fallback: null,
    flag: 'out',
    help: 'write all figures as JSON into this file too',
    fallbackWords: 'none',
    commands: ['bench'],
  },
  rounds: {
    kind: 'integer',
    min: 1,
    max: 100,
    fallback: 3,
    help: 'how often everything is measured, in turn; the tables pool the rounds',
    commands: ['bench'],
  },
  quick: {
    kind: 'switch',
    fallback: false,
    bare: true,
    help: 'one short round, to see that all of it runs; its figures are rough',
    commands: ['bench'],
  },
  peer: {
    kind: 'text',
    placeholder: 'NAME=URL',
    fallback: null,
    help: "another running server with OpenAI's API, measured in turn with this one",
    commands: ['bench'],
  },
  peerMode: {
    kind: 'choice',
    choices: ['lora', 'model'],
    fallback: 'lora',
    help: "how the peer is told the adapter: llama.cpp's `lora` field with ids 0 to 7, or models of its own, the base and then 8 adapters in its /v1/models",
    commands: ['bench'],
  },
  merging: {
    kind: 'switch',
    fallback: false,
    bare: true,
    help: 'instead of the tables: how long each form of merged weights takes to make, what it takes, drifts and gains',
    commands: ['bench'],
  },
  tenants: {
    kind: 'switch',
    fallback: false,
    bare: true,
    help: 'instead of the tables: 20 tenants with 100 adapters (20 with --quick), one tenant greedy, in a data folder of their own',
    commands: ['bench'],
  },
  soak: {
    kind: 'integer',
    min: 1,
    max: 10_080,
    fallback: null,
    help: 'instead of the tables: minutes of adapters that come and go under load, and whether memory stays flat and nothing is left behind',
    fallbackWords: 'no soak',
    commands: ['bench'],
  },
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
