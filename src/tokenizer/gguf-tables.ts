// A tokenizer's files as the tables of a GGUF's metadata (`tokenizer.*`), as llama.cpp reads them: the inverse of gguf-tokenizer.ts.
// Two kinds: byte-level BPE (model gpt2) and BPE with byte fallback over "▁" for a space (model llama).

import { PRE_TOKENIZERS } from './pre-tokenizers.js';
import { GPT2_PATTERN } from './text-splitter.js';
import {
  addedTokens,
  chatTemplateText,
  type Fields,
  fieldsOf,
  generationEosIds,
  invalidTokenizer,
  listOf,
  namedSpecialTokens,
  type TokenizerFiles,
  unsupportedTokenizer,
} from './tokenizer-files.js';

/** A metadata value with its type. */
export type TokenizerTable =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'u32'; readonly value: number }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s' | 'f32s'; readonly value: readonly number[] };

export interface ModelTokens {
  /** Rows of the embedding: as many tokens are written, the missing ones as unused. */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly addBos: boolean;
}

/** Values of tokenizer.ggml.token_type. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;

const SPACE = '▁';
/** In llama.cpp's keys: what ends a text, a turn and a message. */
const END_KEYS = ['eos_token_id', 'eot_token_id', 'eom_token_id'];

/** Throws GatewayError unsupported_model naming what llama.cpp has no table for, invalid_file where the files are broken. */
export function ggufTables(files: TokenizerFiles, model: ModelTokens): Record<string, TokenizerTable> {
  const tokenizer = fieldsOf(files.tokenizerJson);
  const bpe = fieldsOf(tokenizer['model']);
  if (bpe['type'] !== 'BPE' && bpe['merges'] === undefined)
    throw unsupportedTokenizer(`A tokenizer of type ${quote(bpe['type'])} in GGUF`, ['BPE']);
  const tokens = tokensById(files, bpe, model.vocabSize);
  const isByteFallback = bpe['byte_fallback'] === true;
  const template = chatTemplateText(files);
  return {
    ...(isByteFallback ? spaceTables(tokenizer, bpe, tokens) : byteLevelTables(tokenizer, bpe)),
    'tokenizer.ggml.tokens': { type: 'strings', value: tokens },
    'tokenizer.ggml.token_type': { type: 'i32s', value: tokenTypes(files, tokens, isByteFallback) },
    ...idTables(files, tokens, model),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: model.addBos },
    ...(template === null ? {} : { 'tokenizer.chat_template': { type: 'string' as const, value: template } }),
  };
}

/** The vocabulary and the added tokens; ids that have none are `[PAD7]`. */
function tokensById(files: TokenizerFiles, bpe: Fields, vocabSize: number): string[] {
  const tokens = Array.from({ length: vocabSize }, () => '');
  const set = (token: string, id: unknown): void => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0)
      throw invalidTokenizer(`Expected the id of ${quote(token)} to be a whole number, got ${quote(id)}`);
    if (id < vocabSize) tokens[id] = token;
  };
  for (const [token, id] of Object.entries(fieldsOf(bpe['vocab']))) set(token, id);
  for (const { content, id } of addedTokens(files.tokenizerJson)) set(content, id);
  return tokens.map((token, id) => (token === '' ? padding(id) : token));
}

function padding(id: number): string {
  return `[PAD${id}]`;
}

function tokenTypes(files: TokenizerFiles, tokens: readonly string[], isByteFallback: boolean): number[] {
  const unknown = namedSpecialTokens(files.tokenizerConfig)['unk_token'];
  const types = tokens.map((token, id): number => {
    if (token === padding(id)) return UNUSED;
    return isByteFallback && /^<0x[0-9A-F]{2}>$/.test(token) ? BYTE : NORMAL;
  });
  for (const { id, content, special } of addedTokens(files.tokenizerJson)) {
    if (id >= tokens.length) continue;
    if (isByteFallback && content === unknown) types[id] = UNKNOWN;
    else types[id] = special ? CONTROL : USER_DEFINED;
  }
  return types;
}

function idTables(
  files: TokenizerFiles,
  tokens: readonly string[],
  model: ModelTokens,
): Record<string, TokenizerTable> {
  const named = namedSpecialTokens(files.tokenizerConfig);
  const idOf = (name: string): number | null => {
    const id = named[name] === undefined ? -1 : tokens.indexOf(named[name]);
    return id < 0 ? null : id;
  };
  const eos = idOf('eos_token');
  const ends = [...new Set([...model.eosTokenIds, ...generationEosIds(files.generationConfig)])];
  const ordered = eos !== null && ends.includes(eos) ? [eos, ...ends.filter((id) => id !== eos)] : ends;
  const ids: (readonly [string, number | null])[] = [
    ['bos_token_id', model.bosTokenId ?? idOf('bos_token')],
    ...END_KEYS.map((key, index) => [key, ordered[index] ?? null] as const),
    ['unknown_token_id', idOf('unk_token')],
    ['padding_token_id', idOf('pad_token')],
  ];
  return Object.fromEntries(
    ids.flatMap(([key, id]) =>
      id === null ? [] : [[`tokenizer.ggml.${key}`, { type: 'u32', value: id } as const]],
    ),
  );
}

function byteLevelTables(tokenizer: Fields, bpe: Fields): Record<string, TokenizerTable> {
  const { patterns, addsSpace } = byteLevelSteps(tokenizer['pre_tokenizer']);
  const normalizer = tokenizer['normalizer'] ?? null;
  const normalizerType = normalizer === null ? undefined : fieldsOf(normalizer)['type'];
  const found = [...PRE_TOKENIZERS].find(
    ([, entry]) =>
      entry.patterns.join('\n') === patterns?.join('\n') &&
      entry.normalizer === normalizerType &&
      (entry.ignoreMerges ?? false) === (bpe['ignore_merges'] ?? false),
  );
  if (found === undefined)
    throw unsupportedTokenizer(
      'The pre-tokenizer of tokenizer.json in GGUF (export safetensors instead, or one like it)',
      [...PRE_TOKENIZERS.keys()],
    );
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: found[0] },
    'tokenizer.ggml.merges': { type: 'strings', value: mergePairs(bpe).map((pair) => pair.join(' ')) },
    ...(addsSpace ? { 'tokenizer.ggml.add_space_prefix': { type: 'bool', value: true } } : {}),
  };
}

/** The patterns that text is cut at before it becomes bytes; null where there is another step. */
function byteLevelSteps(preTokenizer: unknown): { patterns: readonly string[] | null; addsSpace: boolean } {
  const patterns: string[] = [];
  let addsSpace = false;
  for (const step of preTokenizerSteps(preTokenizer)) {
    const { type, pattern, behavior, invert } = step;
    const regex = fieldsOf(pattern)['Regex'];
    if (type === 'Split' && typeof regex === 'string' && behavior === 'Isolated' && invert !== true)
      patterns.push(regex);
    else if (type === 'Digits') patterns.push(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+');
    else if (type === 'ByteLevel') {
      if (step['use_regex'] !== false) patterns.push(GPT2_PATTERN);
      addsSpace ||= step['add_prefix_space'] === true;
    } else return { patterns: null, addsSpace };
  }
  return { patterns, addsSpace };
}

/**
 * llama.cpp joins any two neighbours that make a token, the highest score first; tokenizer.json joins the listed pairs, the lowest rank
 * first. These are the same, with minus the rank as the score, where the list is what sentencepiece's conversion makes it.
 */
function spaceTables(
  tokenizer: Fields,
  bpe: Fields,
  tokens: readonly string[],
): Record<string, TokenizerTable> {
  const merges = mergePairs(bpe);
  const ranks = new Map<string, number>();
  for (const [rank, [left, right]] of merges.entries())
    if (!ranks.has(left + right)) ranks.set(left + right, rank);
  checkComplete(merges, fieldsOf(bpe['vocab']));
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'llama' },
    'tokenizer.ggml.pre': { type: 'string', value: 'default' },
    'tokenizer.ggml.scores': {
      type: 'f32s',
      value: tokens.map((token) => -(ranks.get(token) ?? ranks.size)),
    },
    'tokenizer.ggml.add_space_prefix': { type: 'bool', value: prependsSpace(tokenizer) },
  };
}

/** Every pair that makes a token is listed, all pairs of a token together. Throws unsupported_model naming a token. */
function checkComplete(merges: readonly (readonly [string, string])[], vocab: Fields): void {
  const listed = new Set(merges.map((pair) => pair.join(' ')));
  const refuse = (token: string) =>
    unsupportedTokenizer(`The list of merges in tokenizer.json, at ${quote(token)}, in GGUF`, [
      'lists that sentencepiece vocabularies were converted to (export safetensors instead)',
    ]);
  const done = new Set<string>();
  let last = '';
  for (const token of merges.map(([left, right]) => left + right)) {
    if (token !== last && done.has(token)) throw refuse(token);
    done.add(token);
    last = token;
  }
  for (const token of Object.keys(vocab)) {
    if (/^<.*>$/.test(token)) continue;
    for (let at = 1; at < token.length; at++) {
      const [left, right] = [token.slice(0, at), token.slice(at)];
      if (Object.hasOwn(vocab, left) && Object.hasOwn(vocab, right) && !listed.has(`${left} ${right}`))
        throw refuse(token);
    }
  }
}

/** Whether a space goes in front of the text. Throws unsupported_model for steps other than "▁" for each space. */
function prependsSpace(tokenizer: Fields): boolean {
  const normalizer = fieldsOf(tokenizer['normalizer']);
  const normalizers =
    normalizer['type'] === 'Sequence' ? listOf(normalizer['normalizers']).map(fieldsOf) : [normalizer];
  let prepends = false;
  for (const step of normalizers.filter(({ type }) => type !== undefined)) {
    const isReplace = fieldsOf(step['pattern'])['String'] === ' ' && step['content'] === SPACE;
    if (step['type'] === 'Prepend' && step['prepend'] === SPACE) prepends = true;
    else if (step['type'] !== 'Replace' || !isReplace)
      throw unsupportedTokenizer(`The normalizer ${quote(step)} in GGUF`, ['Prepend and Replace with ▁']);
  }
  for (const step of preTokenizerSteps(tokenizer['pre_tokenizer'])) {
    if (step['type'] !== 'Metaspace' || (step['replacement'] ?? SPACE) !== SPACE)
      throw unsupportedTokenizer(`The pre-tokenizer ${quote(step)} in GGUF`, ['Metaspace with ▁']);
    const scheme = step['prepend_scheme'] ?? (step['add_prefix_space'] === false ? 'never' : 'always');
    prepends ||= scheme !== 'never';
  }
  return prepends;
}

function preTokenizerSteps(preTokenizer: unknown): Fields[] {
  const fields = fieldsOf(preTokenizer);
  if (fields['type'] === undefined) return [];
  return fields['type'] === 'Sequence' ? listOf(fields['pretokenizers']).map(fieldsOf) : [fields];
}

function mergePairs(bpe: Fields): (readonly [string, string])[] {
  return listOf(bpe['merges']).map((merge) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : listOf(merge);
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== 'string' || typeof right !== 'string')
      throw invalidTokenizer(`Expected each of \`merges\` to be two tokens, got ${quote(merge)}`);
    return [left, right];
  });
}

function quote(value: unknown): string {
  return `\`${(JSON.stringify(value) ?? 'nothing').slice(0, 80)}\``;
}
