// Options of the commands that talk to a running server: how it is reached, `chat`, and `bench`.
import type { Option } from './option.js';

export const CONNECTION = {
  url: {
    kind: 'text',
    placeholder: 'URL',
    fallback: 'http://127.0.0.1:8080',
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
} as const satisfies Record<string, Option>;

export const CHAT = {
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
} as const satisfies Record<string, Option>;

export const BENCH = {
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
