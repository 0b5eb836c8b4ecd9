// Text to token ids: cuts the text at added tokens, and what lies between into pieces, and encodes each piece.

import { BytePairModel } from './byte-pair-model.js';
import { LengthBound } from './length-bound.js';
import { LiteralCutter } from './literal-cutter.js';
import { countWork, type Steps, TEXT_PER_STEP, WORK_PER_STEP } from './steps.js';
import { TextSplitter } from './text-splitter.js';
import { type TokenTable } from './token-table.js';
import { fieldsOf, listOf } from './tokenizer-files.js';
import { type TokenLimit } from './types.js';

export interface EncodeOptions {
  /** Literals of special tokens are the tokens. */
  readonly takeSpecial: boolean;
  readonly limit?: TokenLimit | undefined;
  /** Is applied to the text between special tokens. */
  readonly restore?: (text: string) => Steps<string>;
}

/** What a piece or an added token costs beside its characters, in characters. */
const WORK_PER_UNIT = 4;
const MAX_KEPT_CHARACTERS = 64;
const MAX_KEPT_PIECES = 1 << 14;

export class BpeEncoder {
  readonly #splitter: TextSplitter;
  readonly #table: TokenTable;
  readonly #model: BytePairModel;
  readonly #special: LiteralCutter;
  readonly #plain: LiteralCutter;
  readonly #normalized: LiteralCutter;
  readonly #lengthBound: LengthBound;
  /** Words come again and again. */
  readonly #kept = new Map<string, readonly number[]>();

  /** Throws GatewayError invalid_file or unsupported_model. */
  constructor(tokenizerJson: object, table: TokenTable) {
    this.#splitter = new TextSplitter(tokenizerJson);
    this.#table = table;
    this.#model = new BytePairModel(fieldsOf(fieldsOf(tokenizerJson)['model']), table);
    const plain = table.added.filter(({ special }) => !special);
    this.#special = new LiteralCutter(table.specials);
    this.#plain = new LiteralCutter(plain.filter(({ normalized }) => !normalized));
    this.#normalized = new LiteralCutter(plain.filter(({ normalized }) => normalized));
    this.#lengthBound = new LengthBound(tokenizerJson, table);
  }

  /** Throws what the limit says as soon as there are certainly more tokens than it allows. */
  *encode(text: string, options: EncodeOptions): Steps<number[]> {
    const { limit } = options;
    const maxTokens = limit?.maxTokens ?? Infinity;
    const ids: number[] = [];
    const isDue = countWork(WORK_PER_STEP);
    const add = (id: number): void => {
      if (ids.push(id) > maxTokens) throw limit!.exceeded();
    };
    for (const unit of this.#units(text, options)) {
      if (typeof unit === 'number') add(unit);
      else if (unit !== undefined) for (const id of yield* this.#encodePiece(unit)) add(id);
      if (unit === undefined || isDue(WORK_PER_UNIT + (typeof unit === 'number' ? 0 : unit.length))) yield;
    }
    return ids;
  }

  /** Pieces that are encoded each on its own, ids of added tokens, and undefined wherever a step ends. */
  *#units(
    text: string,
    { takeSpecial, limit, restore }: EncodeOptions,
  ): Generator<string | number | undefined> {
    let isFirst = true;
    for (const section of takeSpecial ? this.#special.cut(text) : [text]) {
      if (typeof section !== 'string') yield section.id;
      else {
        const restored = restore === undefined ? section : yield* restore(section);
        for (const part of this.#parts(restored)) {
          if (typeof part === 'number') yield part;
          else {
            if (limit && this.#lengthBound.exceeds(part, limit.maxTokens)) throw limit.exceeded();
            yield* this.#splitter.pieces(part, isFirst);
          }
          isFirst = false;
        }
      }
      isFirst = false;
    }
  }

  /** Text between added tokens, normalized, and the ids of those that are not special. */
  *#parts(text: string): Generator<string | number> {
    for (const section of this.#plain.cut(text)) {
      if (typeof section !== 'string') yield section.id;
      else
        for (const part of this.#normalized.cut(this.#splitter.normalize(section)))
          yield typeof part === 'string' ? part : part.id;
    }
  }

  *#encodePiece(piece: string): Steps<readonly number[]> {
    const kept = this.#kept.get(piece);
    if (kept !== undefined) return kept;
    const merged = yield* this.#model.encode(piece);
    const ids = (yield* this.#hasForged(merged)) ? yield* this.#model.spell(piece) : merged;
    if (piece.length <= MAX_KEPT_CHARACTERS) {
      if (this.#kept.size >= MAX_KEPT_PIECES) this.#kept.clear();
      this.#kept.set(piece, ids);
    }
    return ids;
  }

  /** Whether merging plain text made a special token: a vocabulary may hold one that its merges can reach. */
  *#hasForged(ids: readonly number[]): Steps<boolean> {
    const isDue = countWork(TEXT_PER_STEP);
    for (const id of ids) {
      if (this.#table.isSpecial(id) && id !== this.#model.unknownId) return true;
      if (isDue(1)) yield;
    }
    return false;
  }
}

/** The token that the post-processor puts in front of a text, if any. */
export function leadingToken(tokenizerJson: object): string | null {
  const processor = fieldsOf(fieldsOf(tokenizerJson)['post_processor']);
  const all = [processor, ...listOf(processor['processors']).map(fieldsOf)];
  const template = all.find(({ type }) => type === 'TemplateProcessing') ?? {};
  const first = fieldsOf(fieldsOf(listOf(template['single'])[0])['SpecialToken']);
  return typeof first['id'] === 'string' ? first['id'] : null;
}
