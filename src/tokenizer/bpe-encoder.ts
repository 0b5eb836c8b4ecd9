// Text to token ids: cuts the text at added tokens, and lets @huggingface/tokenizers normalize, split and merge what lies between.
// Of that library only these steps are used: its own cutting takes special tokens from any text, and its decoding tidies spaces.

import { Tokenizer } from '@huggingface/tokenizers';
import { literalPattern } from './protected-text.js';
import { type TokenTable } from './token-table.js';
import {
  type AddedToken,
  type Fields,
  fieldsOf,
  invalidTokenizer,
  listOf,
  unsupportedTokenizer,
} from './tokenizer-files.js';
import { flatten } from './token-table.js';

/** A piece of text, or an added token found in it. */
type Section = string | AddedToken;

/** GPT-2's pattern, which `ByteLevel` implies; spelled out, so that the library reads \s as Unicode's white space and not as JavaScript's. */
export const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const PRE_TOKENIZERS = ['Split', 'ByteLevel', 'Digits', 'Metaspace'];

/** The steps of the library's tokenizer that are used here. */
interface Library {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: ((text: string, options: { readonly section_index: number }) => string[]) | null;
  readonly model: ((pieces: readonly string[]) => string[]) & { readonly unk_token_id?: number };
}

export class BpeEncoder {
  readonly #library: Library;
  readonly #table: TokenTable;
  readonly #special: Cutter;
  readonly #plain: Cutter;
  readonly #normalized: Cutter;

  /** Throws GatewayError invalid_file or unsupported_model. */
  constructor(tokenizerJson: object, table: TokenTable) {
    this.#library = openLibrary(tokenizerJson);
    this.#table = table;
    const plain = table.added.filter(({ special }) => !special);
    this.#special = new Cutter(table.specials);
    this.#plain = new Cutter(plain.filter(({ normalized }) => !normalized));
    this.#normalized = new Cutter(plain.filter(({ normalized }) => normalized));
  }

  /** `restore` is applied to the text between special tokens before it is encoded. */
  encode(text: string, takeSpecial: boolean, restore: (text: string) => string = (part) => part): number[] {
    const sections = takeSpecial ? this.#special.cut(text) : [text];
    return sections.flatMap((section, index) =>
      typeof section === 'string' ? this.#encodePlain(restore(section), index === 0) : [section.id],
    );
  }

  /** Special tokens' literals are text here. */
  #encodePlain(text: string, first: boolean): number[] {
    return this.#plain.cut(text).flatMap((section, index) => {
      if (typeof section !== 'string') return [section.id];
      const normalized = this.#library.normalizer?.(section) ?? section;
      return this.#normalized
        .cut(normalized)
        .flatMap((part, inner) =>
          typeof part === 'string' ? this.#merge(part, first && index + inner === 0) : [part.id],
        );
    });
  }

  #merge(text: string, first: boolean): number[] {
    const options = { section_index: first ? 0 : 1 };
    const pieces = this.#library.pre_tokenizer?.(text, options) ?? [text];
    const ids = this.#ids(pieces);
    if (!ids.some((id) => this.#isForged(id))) return ids;
    return pieces.flatMap((piece) => {
      const own = this.#ids([piece]);
      return own.some((id) => this.#isForged(id)) ? this.#ids(Array.from(piece)) : own;
    });
  }

  #ids(pieces: readonly string[]): number[] {
    const unknown = this.#library.model.unk_token_id ?? 0;
    return this.#library.model(pieces).map((token) => this.#table.idOf(token) ?? unknown);
  }

  /** Whether merging plain text made a special token: a vocabulary may hold one that its merges can reach. */
  #isForged(id: number): boolean {
    return this.#table.isSpecial(id) && id !== this.#library.model.unk_token_id;
  }
}

/** Cuts text at the longest of its tokens' literals. */
class Cutter {
  readonly #pattern: RegExp | null;
  readonly #tokens: ReadonlyMap<string, AddedToken>;

  constructor(tokens: readonly AddedToken[]) {
    this.#pattern = literalPattern(tokens.map(({ content }) => content));
    this.#tokens = new Map(tokens.map((token) => [token.content, token]));
  }

  /** Without empty pieces. */
  cut(text: string): Section[] {
    if (this.#pattern === null) return text === '' ? [] : [text];
    const sections: Section[] = [];
    let start = 0;
    let strips = false;
    const pushText = (end: number, stripsEnd: boolean) => {
      const piece = text.slice(start, end);
      const left = strips ? piece.trimStart() : piece;
      const kept = stripsEnd ? left.trimEnd() : left;
      if (kept !== '') sections.push(kept);
    };
    for (const match of text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(match[0])!;
      pushText(match.index, token.lstrip);
      sections.push(token);
      start = match.index + match[0].length;
      strips = token.rstrip;
    }
    pushText(text.length, false);
    return sections;
  }
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
        model: { ...model, type: 'BPE' },
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

/** The same steps, those replaced in which the library differs from the original (ASCII digits, JavaScript's white space). */
function exactPreTokenizer(preTokenizer: unknown): object | null {
  const steps = flatten(preTokenizer, 'pretokenizers').flatMap((step) => {
    checkPreTokenizer(step);
    if (step['type'] === 'Digits')
      return [isolate(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+')];
    const impliesPattern = step['type'] === 'ByteLevel' && step['use_regex'] !== false;
    if (impliesPattern && step['add_prefix_space'] !== true)
      return [isolate(GPT2_PATTERN), { ...step, use_regex: false }];
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

/** The token that the post-processor puts in front of a text, if any. */
export function leadingToken(tokenizerJson: object): string | null {
  const processor = fieldsOf(fieldsOf(tokenizerJson)['post_processor']);
  const all = [processor, ...listOf(processor['processors']).map(fieldsOf)];
  const template = all.find(({ type }) => type === 'TemplateProcessing') ?? {};
  const first = fieldsOf(fieldsOf(listOf(template['single'])[0])['SpecialToken']);
  return typeof first['id'] === 'string' ? first['id'] : null;
}
