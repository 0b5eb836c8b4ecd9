// Options of the commands that work on files without a server: plan, convert and adapters export.
import type { Option } from './option.js';

export const OFFLINE = {
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
} as const satisfies Record<string, Option>;
