// Which keys of a dataset's rows hold what: the formats that are known, and how a format is told by its keys.

import { GatewayError } from '../errors.js';
import type { Fields } from './json-rows.js';

/** Messages in a list: OpenAI's and ShareGPT's rows. */
export interface ConversationMapping {
  readonly kind: 'conversation';
  readonly messages: string;
  readonly system: string | null;
  /** Both null, or the keys of one message each: then `messages` is the prompt. */
  readonly chosen: string | null;
  readonly rejected: string | null;
  readonly tags: ConversationTags;
  /** Messages may have OpenAI's `weight`. */
  readonly weights: boolean;
  /** Keys besides the usual ones of tools and media; a row that has something there is refused. */
  readonly unsupported: readonly string[];
}

/** Keys of a message, and the values of its role. */
export interface ConversationTags {
  readonly role: string;
  readonly content: string;
  readonly user: string;
  readonly assistant: string;
  readonly system: string;
  readonly observation: string;
  readonly function: string;
}

/** Alpaca's rows. Without `response` and `chosen` the prompt is raw text. */
export interface InstructionMapping {
  readonly kind: 'instruction';
  readonly prompt: string | null;
  readonly query: string | null;
  readonly response: string | null;
  readonly history: string | null;
  readonly system: string | null;
  readonly chosen: string | null;
  readonly rejected: string | null;
  readonly unsupported: readonly string[];
}

export type RowMapping =
  | ConversationMapping
  | InstructionMapping
  | { readonly kind: 'openai_preference' }
  | { readonly kind: 'preference' }
  | { readonly kind: 'prompt_completion' }
  | { readonly kind: 'text' };

export const OPENAI_TAGS: ConversationTags = {
  role: 'role',
  content: 'content',
  user: 'user',
  assistant: 'assistant',
  system: 'system',
  observation: 'tool',
  function: 'function',
};

export const SHAREGPT_TAGS: ConversationTags = {
  role: 'from',
  content: 'value',
  user: 'human',
  assistant: 'gpt',
  system: 'system',
  observation: 'observation',
  function: 'function_call',
};

const OPENAI: ConversationMapping = {
  kind: 'conversation',
  messages: 'messages',
  system: null,
  chosen: null,
  rejected: null,
  tags: OPENAI_TAGS,
  weights: true,
  unsupported: [],
};

const SHAREGPT: ConversationMapping = {
  ...OPENAI,
  messages: 'conversations',
  system: 'system',
  tags: SHAREGPT_TAGS,
  weights: false,
};

const ALPACA: InstructionMapping = {
  kind: 'instruction',
  prompt: 'instruction',
  query: 'input',
  response: 'output',
  history: 'history',
  system: 'system',
  chosen: null,
  rejected: null,
  unsupported: [],
};

const RANKED = { chosen: 'chosen', rejected: 'rejected' };

/** Formats by name: the keys that every row has, and where its parts are. */
const FORMATS = {
  openai: { keys: ['messages'], mapping: OPENAI },
  openai_preference: {
    keys: ['input', 'preferred_output', 'non_preferred_output'],
    mapping: { kind: 'openai_preference' },
  },
  sharegpt: { keys: ['conversations'], mapping: SHAREGPT },
  sharegpt_preference: {
    keys: ['conversations', 'chosen', 'rejected'],
    mapping: { ...SHAREGPT, ...RANKED },
  },
  alpaca: { keys: ['instruction', 'output'], mapping: ALPACA },
  alpaca_preference: {
    keys: ['instruction', 'chosen', 'rejected'],
    mapping: { ...ALPACA, response: null, ...RANKED },
  },
  preference: { keys: ['chosen', 'rejected'], mapping: { kind: 'preference' } },
  prompt_completion: { keys: ['prompt', 'completion'], mapping: { kind: 'prompt_completion' } },
  text: { keys: ['text'], mapping: { kind: 'text' } },
} as const satisfies Record<string, { readonly keys: readonly string[]; readonly mapping: RowMapping }>;

export type DatasetFormat = keyof typeof FORMATS;

export const DATASET_FORMATS = Object.keys(FORMATS) as DatasetFormat[];

export function mappingOf(format: DatasetFormat): RowMapping {
  return FORMATS[format].mapping;
}

/**
 * The format whose keys the row has; of two, the one that asks for all keys of the other and more.
 * Throws GatewayError invalid_file where there is none, naming the formats; where there are several, naming these; and where
 * the row is one of KTO's, whose answers may be bad ones.
 */
export function detectFormat(row: Fields, file: string): DatasetFormat {
  for (const key of ['label', 'kto_tag'])
    if (typeof row[key] === 'boolean')
      throw refused(
        file,
        `\`${key}\` marks answers as good or bad (KTO), which is not supported. Keep the rows where it is true and remove the key, or write pairs with \`chosen\` and \`rejected\``,
      );
  const fitting = DATASET_FORMATS.filter((name) => keysOf(name).every((key) => Object.hasOwn(row, key)));
  const closest = fitting.filter((name) => !fitting.some((other) => isPartOf(name, other)));
  const [format, ...others] = closest;
  if (format === undefined)
    throw refused(
      file,
      `rows with the keys ${list(Object.keys(row))} are of no known format. Known are ${formatList(DATASET_FORMATS)}`,
    );
  if (others.length > 0)
    throw refused(
      file,
      `rows fit several formats: ${formatList(closest)}. Name one as the format, or remove the keys of the others`,
    );
  return format;
}

function keysOf(format: DatasetFormat): readonly string[] {
  return FORMATS[format].keys;
}

function isPartOf(format: DatasetFormat, other: DatasetFormat): boolean {
  return format !== other && keysOf(format).every((key) => keysOf(other).includes(key));
}

function formatList(formats: readonly DatasetFormat[]): string {
  return formats.map((format) => `${format} (${keysOf(format).join(', ')})`).join('; ');
}

function list(keys: readonly string[]): string {
  return keys.map((key) => `\`${key}\``).join(', ');
}

function refused(file: string, problem: string): GatewayError {
  return new GatewayError('invalid_file', `${file}: ${problem}`, { param: file });
}
