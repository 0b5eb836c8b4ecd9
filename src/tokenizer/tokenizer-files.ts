// What a tokenizer is made of: the parsed tokenizer.json, tokenizer_config.json, generation_config.json and the chat template's text,
// and how to read the few values that the rest needs. The files are outside data: nothing in them is trusted to have the right type.

import { GatewayError } from '../errors.js';

export interface TokenizerFiles {
  /** tokenizer.json, parsed. */
  readonly tokenizerJson: object;
  /** tokenizer_config.json, parsed. */
  readonly tokenizerConfig: object;
  /** generation_config.json, parsed: its eos_token_id may list more ids that end a text. */
  readonly generationConfig?: object;
  /** chat_template.jinja; wins over tokenizer_config.json's `chat_template`. */
  readonly chatTemplate?: string;
}

/** One entry of tokenizer.json's added_tokens. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  /** Matched in the normalized text rather than in the text as it came. */
  readonly normalized: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

export type Fields = Readonly<Record<string, unknown>>;

/** No vocabulary comes near it; a larger id would only claim memory. */
const MAX_TOKEN_ID = 2 ** 24;
const SPECIAL_NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
];

export function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {};
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The special tokens that the config names, as templates know them: bos_token, eos_token ... */
export function namedSpecialTokens(config: object): Readonly<Record<string, string>> {
  const fields = fieldsOf(config);
  return Object.fromEntries(
    SPECIAL_NAMES.flatMap((name) => {
      const token = fields[name];
      const content = typeof token === 'string' ? token : fieldsOf(token)['content'];
      return typeof content === 'string' ? [[name, content]] : [];
    }),
  );
}

/** `eos_token_id` of a generation config: a number, a list, or nothing. */
export function generationEosIds(config: object | undefined): number[] {
  const value = fieldsOf(config)['eos_token_id'];
  return [value].flat().filter((id) => typeof id === 'number');
}

/** The text of the chat template: the file, the config's string, or the one named `default` in the config's list. */
export function chatTemplateText(files: TokenizerFiles): string | null {
  if (files.chatTemplate !== undefined) return files.chatTemplate;
  const value = fieldsOf(files.tokenizerConfig)['chat_template'];
  if (typeof value === 'string') return value;
  const named = listOf(value).map(fieldsOf);
  const template = (named.find(({ name }) => name === 'default') ?? {})['template'];
  return typeof template === 'string' ? template : null;
}

export function addedTokens(tokenizerJson: object): AddedToken[] {
  return listOf(fieldsOf(tokenizerJson)['added_tokens']).map((entry) => {
    const { id, content, special, normalized, lstrip, rstrip } = fieldsOf(entry);
    if (typeof content !== 'string' || content === '' || !isTokenId(id))
      throw invalidTokenizer('Expected each of `added_tokens` to have an id and a content');
    return {
      id,
      content,
      special: special === true,
      normalized: typeof normalized === 'boolean' ? normalized : special !== true,
      lstrip: lstrip === true,
      rstrip: rstrip === true,
    };
  });
}

export function isTokenId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < MAX_TOKEN_ID;
}

export function invalidTokenizer(problem: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'invalid_file',
    `tokenizer.json: ${problem}. Take the file from the model's source again`,
    {
      param: 'tokenizer.json',
      cause,
    },
  );
}

export function unsupportedTokenizer(what: string, supported: readonly string[]): GatewayError {
  return new GatewayError(
    'unsupported_model',
    `${what} is not supported; supported are ${supported.join(', ')}`,
    {
      param: 'tokenizer',
    },
  );
}
