// The one table of options. Config's type, flags, environment names, file keys, --help and docs/configuration.md are all
// derived from it; where values come from and how they are checked is in cli/read-config.ts.
import { availableParallelism } from 'node:os';

export type Command = 'serve' | 'pull' | 'convert' | 'adapters' | 'chat' | 'bench' | 'train' | 'plan';

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

/** In the order of --help. The key in kebab case is the flag and the file key; GRAFT_ and upper case is the environment name. */
export const OPTIONS = {
  model: {
    kind: 'text',
    placeholder: 'MODEL',
    fallback: 'SmolLM2-135M-Instruct',
    help: 'the base: a catalog name, a folder of safetensors, a .gguf file, or a Hub id (owner/name, owner/name@revision, owner/name:file.gguf)',
    commands: ['serve', 'bench'],
  },
  weights: {
    kind: 'choice',
    choices: ['q4', 'q8', 'f32'],
    fallback: 'q4',
    help: "the base's weights: 4 bits (a GGUF's own 4-bit tensors stay exact), 8 bits, or 32-bit floats",
    commands: ['serve', 'pull', 'convert', 'bench', 'train', 'plan'],
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
    commands: ['serve', 'pull', 'convert', 'bench', 'train', 'plan'],
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
  url: {
    kind: 'text',
    placeholder: 'URL',
    fallback: DEFAULT_URL,
    help: 'the running server',
    commands: ['adapters', 'chat'],
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
