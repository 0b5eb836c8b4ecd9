// Rebuilds the Hugging Face files of a tokenizer from the tables in a GGUF's metadata (`tokenizer.ggml.*`): byte-level BPE only.

import { GatewayError } from '../errors.js';
import { PRE_TOKENIZERS, type PreTokenizer, preTokenizerJson } from './pre-tokenizers.js';
import { type TokenizerFiles, isTokenId, unsupportedTokenizer } from './tokenizer-files.js';

type Metadata = ReadonlyMap<string, unknown>;

/** Values of tokenizer.ggml.token_type. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/** Where the file does not say what ends a turn: control tokens that do so in every model that has them. */
const END_TOKENS = new Set([
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<end_of_turn>',
  '<｜end▁of▁sentence｜>',
]);
const END_KEYS = ['eos_token_id', 'eot_token_id', 'eom_token_id'];

/**
 * Throws GatewayError unsupported_model naming a tokenizer model or pre-tokenizer that is not supported and those that are,
 * invalid_file where a table is missing or broken.
 */
export function tokenizerFilesFromGguf(metadata: Metadata): Required<Omit<TokenizerFiles, 'chatTemplate'>> & {
  readonly chatTemplate?: string;
} {
  const preTokenizer = readPreTokenizer(metadata);
  const tokens = strings(metadata, 'tokens');
  const types = tokenTypes(metadata, tokens.length);
  const template = metadata.get('tokenizer.chat_template');
  return {
    tokenizerJson: tokenizerJson(metadata, preTokenizer, tokens, types),
    tokenizerConfig: tokenizerConfig(metadata, preTokenizer, tokens),
    generationConfig: { eos_token_id: endIds(metadata, tokens, types) },
    ...(typeof template === 'string' ? { chatTemplate: template } : {}),
  };
}

function readPreTokenizer(metadata: Metadata): PreTokenizer {
  const model = metadata.get('tokenizer.ggml.model');
  if (model !== 'gpt2') throw unsupportedTokenizer(`tokenizer.ggml.model ${quote(model)}`, ['gpt2']);
  const name = metadata.get('tokenizer.ggml.pre') ?? 'default';
  const preTokenizer = typeof name === 'string' ? PRE_TOKENIZERS.get(name) : undefined;
  if (preTokenizer === undefined)
    throw unsupportedTokenizer(`tokenizer.ggml.pre ${quote(name)}`, [...PRE_TOKENIZERS.keys()]);
  return preTokenizer;
}

function tokenizerJson(
  metadata: Metadata,
  preTokenizer: PreTokenizer,
  tokens: readonly string[],
  types: readonly number[],
): object {
  const vocab: Record<string, number> = Object.create(null);
  for (const [id, token] of tokens.entries()) vocab[token] ??= id;
  return {
    version: '1.0',
    added_tokens: addedTokens(tokens, types),
    normalizer: preTokenizer.normalizer === undefined ? null : { type: preTokenizer.normalizer },
    pre_tokenizer: preTokenizerJson(preTokenizer, metadata.get('tokenizer.ggml.add_space_prefix') === true),
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      unk_token: null,
      byte_fallback: false,
      ignore_merges: preTokenizer.ignoreMerges === true,
      vocab,
      merges: merges(metadata),
    },
  };
}

function addedTokens(tokens: readonly string[], types: readonly number[]): object[] {
  return tokens.flatMap((content, id) => {
    const type = types[id];
    const special = type === CONTROL || type === UNKNOWN;
    if (content === '' || (!special && type !== USER_DEFINED)) return [];
    return [{ id, content, special, normalized: false, single_word: false, lstrip: false, rstrip: false }];
  });
}

function tokenizerConfig(metadata: Metadata, preTokenizer: PreTokenizer, tokens: readonly string[]): object {
  const named = [
    ['bos_token', 'bos_token_id'],
    ['eos_token', 'eos_token_id'],
    ['unk_token', 'unknown_token_id'],
    ['pad_token', 'padding_token_id'],
  ].flatMap(([name, key]) => {
    const id = tokenId(metadata, key!, tokens.length);
    return id === null ? [] : [[name, tokens[id]]];
  });
  const addsBos = metadata.get('tokenizer.ggml.add_bos_token') ?? preTokenizer.addsBos ?? false;
  return { ...Object.fromEntries(named), add_bos_token: addsBos === true };
}

function endIds(metadata: Metadata, tokens: readonly string[], types: readonly number[]): number[] {
  const said = END_KEYS.flatMap((key) => tokenId(metadata, key, tokens.length) ?? []);
  const known = tokens.flatMap((token, id) => (types[id] === CONTROL && END_TOKENS.has(token) ? [id] : []));
  return [...new Set([...said, ...known])];
}

/** "left right", either of which may hold no space: byte-level tokens spell a space as "Ġ". */
function merges(metadata: Metadata): [string, string][] {
  return strings(metadata, 'merges').map((merge) => {
    const space = merge.indexOf(' ', 1);
    if (space === -1) throw broken('merges', `Expected each to be two tokens, got ${quote(merge)}`);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}

function tokenTypes(metadata: Metadata, length: number): readonly number[] {
  const types = metadata.get('tokenizer.ggml.token_type');
  if (types === undefined) return Array.from({ length }, () => 1);
  if (!Array.isArray(types) || types.length !== length || !types.every((type) => typeof type === 'number'))
    throw broken('token_type', `Expected a number for each of the ${length} tokens`);
  return types;
}

function tokenId(metadata: Metadata, key: string, numTokens: number): number | null {
  const id = metadata.get(`tokenizer.ggml.${key}`);
  if (id === undefined) return null;
  if (!isTokenId(id) || id >= numTokens)
    throw broken(key, `Expected the id of one of the ${numTokens} tokens, got ${quote(id)}`);
  return id;
}

function strings(metadata: Metadata, key: string): readonly string[] {
  const list = metadata.get(`tokenizer.ggml.${key}`);
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string'))
    throw broken(key, 'Expected a list of strings');
  return list;
}

function broken(key: string, problem: string): GatewayError {
  return new GatewayError(
    'invalid_file',
    `tokenizer.ggml.${key}: ${problem}. Take another file of this model`,
    {
      param: `tokenizer.ggml.${key}`,
    },
  );
}

function quote(value: unknown): string {
  return `\`${(JSON.stringify(value) ?? 'nothing').slice(0, 60)}\``;
}
