// Text to the pieces that are encoded each on its own, as tokenizer.json's normalizer and pre-tokenizer say.
// The pieces come one by one: to cut a text of megabytes takes seconds. Of @huggingface/tokenizers only normalizers, patterns and byte
// alphabets are used: the rest of it takes special tokens from any text, tidies spaces when it decodes, and cuts whole texts at once.

import { Tokenizer } from '@huggingface/tokenizers';
import { spellBytes } from './byte-level.js';
import { flatten } from './token-table.js';
import { type Fields, fieldsOf, invalidTokenizer, unsupportedTokenizer } from './tokenizer-files.js';

/** GPT-2's pattern, which `ByteLevel` implies; spelled out, so that the library reads \s as Unicode's white space and not as JavaScript's. */
export const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/** How patterns that take contractions in either case begin; the library folds ASCII alone, and an s has a third form, U+017F. */
const ANY_CASE_S = "(?i:'s|";
const PRE_TOKENIZERS = ['Split', 'ByteLevel', 'Digits', 'Metaspace'];

/** A step of the library's pre-tokenizer. */
interface PreTokenizer {
  readonly config?: { readonly type: string; readonly invert?: boolean };
  readonly pattern?: RegExp | null;
  readonly use_regex?: boolean;
  readonly add_prefix_space?: boolean;
  pre_tokenize_text(text: string, options: SectionOptions): string[];
}

interface SectionOptions {
  readonly section_index: number;
}

/** What is used of the library's tokenizer. */
interface Library {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: { readonly tokenizers: readonly PreTokenizer[] } | null;
}

export class TextSplitter {
  readonly #library: Library;

  /** Throws GatewayError invalid_file or unsupported_model. */
  constructor(tokenizerJson: object) {
    this.#library = openLibrary(tokenizerJson);
  }

  normalize(text: string): string {
    return this.#library.normalizer?.(text) ?? text;
  }

  /** The pieces of normalized text, and undefined wherever a step ends; `isFirst` of what the whole text begins with. */
  pieces(text: string, isFirst: boolean): Generator<string | undefined> {
    return this.#cut(text, { section_index: isFirst ? 0 : 1 }, 0);
  }

  *#cut(text: string, options: SectionOptions, step: number): Generator<string | undefined> {
    const preTokenizer = this.#library.pre_tokenizer?.tokenizers[step];
    if (preTokenizer === undefined) yield text;
    else
      for (const piece of cut(text, preTokenizer, options))
        if (piece === undefined) yield undefined;
        else yield* this.#cut(piece, options, step + 1);
  }
}

/** What the library's step gives; where a pattern cuts, one by one, and where bytes are spelled, several times as fast. */
function cut(
  text: string,
  preTokenizer: PreTokenizer,
  options: SectionOptions,
): Iterable<string | undefined> {
  const { config, pattern, use_regex: cuts, add_prefix_space: addsSpace } = preTokenizer;
  if (config?.type === 'Split' && pattern instanceof RegExp)
    return matches(text, pattern, config.invert === true);
  if (config?.type === 'ByteLevel' && cuts === false && addsSpace === false) return spellBytes(text);
  return preTokenizer.pre_tokenize_text(text, options);
}

/** The pattern's matches and, unless `only` they are wanted, what lies between. */
function* matches(text: string, pattern: RegExp, only: boolean): Generator<string> {
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (!only && match.index > end) yield text.slice(end, match.index);
    if (match[0] !== '') yield match[0];
    end = match.index + match[0].length;
  }
  if (!only && end < text.length) yield text.slice(end);
}

function openLibrary(tokenizerJson: object): Library {
  const json = fieldsOf(tokenizerJson);
  const model = fieldsOf(json['model']);
  if (model['type'] !== 'BPE' && !(model['type'] === undefined && Array.isArray(model['merges'])))
    throw unsupportedTokenizer(`A tokenizer of type ${String(model['type'])}`, ['BPE']);
  const preTokenizer = exactPreTokenizer(json['pre_tokenizer'] ?? null);
  try {
    return new Tokenizer(
      {
        normalizer: json['normalizer'] ?? null,
        pre_tokenizer: preTokenizer,
        model: { type: 'BPE', vocab: {}, merges: [] },
        post_processor: null,
        decoder: null,
        added_tokens: [],
      },
      {},
    );
  } catch (error) {
    throw invalidTokenizer(error instanceof Error ? error.message : String(error), error);
  }
}

/** The same steps, those replaced in which the library differs from the original (ASCII digits and letters, JavaScript's white space). */
function exactPreTokenizer(preTokenizer: unknown): object | null {
  const steps = flatten(preTokenizer, 'pretokenizers').flatMap((step) => {
    checkPreTokenizer(step);
    if (step['type'] === 'Digits')
      return [isolate(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+')];
    const impliesPattern = step['type'] === 'ByteLevel' && step['use_regex'] !== false;
    if (impliesPattern && step['add_prefix_space'] !== true)
      return [isolate(GPT2_PATTERN), { ...step, use_regex: false }];
    const pattern = fieldsOf(step['pattern'])['Regex'];
    if (step['type'] === 'Split' && typeof pattern === 'string')
      return [{ ...step, pattern: { Regex: pattern.replace(ANY_CASE_S, `${ANY_CASE_S}'ſ|`) } }];
    return [step];
  });
  return steps.length === 0 ? null : { type: 'Sequence', pretokenizers: steps };
}

/** The step that cuts the text into the matches of a pattern and what lies between. */
export function isolate(pattern: string): object {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function checkPreTokenizer(step: Fields): void {
  const { type, behavior, split, invert } = step;
  if (!PRE_TOKENIZERS.includes(String(type)))
    throw unsupportedTokenizer(`The pre-tokenizer ${String(type)}`, PRE_TOKENIZERS);
  const fine = type !== 'Split' || behavior === 'Isolated' || (behavior === 'Removed' && invert === true);
  if (!fine)
    throw unsupportedTokenizer(`A Split pre-tokenizer that is ${String(behavior)}`, [
      'Isolated',
      'Removed with invert',
    ]);
  if (type === 'Metaspace' && split !== false)
    throw unsupportedTokenizer('A Metaspace pre-tokenizer that splits', ['split: false']);
}
