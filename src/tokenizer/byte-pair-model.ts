// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) of one piece of text: of all neighbours that a merge joins, those of the
// lowest rank are joined first, of equal rank the leftmost first. A piece may be a text of megabytes, so the work is done in steps.

import { MinHeap } from './min-heap.js';
import { countWork, type Steps, TEXT_PER_STEP, WORK_PER_STEP } from './steps.js';
import { byteToken, type TokenTable } from './token-table.js';
import { type Fields, invalidTokenizer, listOf, unsupportedTokenizer } from './tokenizer-files.js';

/** A character that is no token: it merges with nothing. */
const UNKNOWN = -1;
const NONE = -1;
/** Longer than any string; with a token id or a rank (below 2 ** 24) above it, still an exact number. */
const RADIX = 2 ** 29;

export class BytePairModel {
  /** The token for what has none; null where such text is dropped. */
  readonly unknownId: number | null;
  readonly #table: TokenTable;
  /** left * RADIX + right -> rank. */
  readonly #ranks = new Map<number, number>();
  /** By rank: what the two become. */
  readonly #joined: Int32Array;
  readonly #takesWholes: boolean;
  readonly #fallsBackToBytes: boolean;
  readonly #fusesUnknown: boolean;

  /** `model` is that of tokenizer.json. Throws GatewayError invalid_file or unsupported_model. */
  constructor(model: Fields, table: TokenTable) {
    for (const name of ['continuing_subword_prefix', 'end_of_word_suffix', 'dropout'])
      if (model[name]) throw unsupportedTokenizer(`A BPE model with ${name}`, ['BPE without it']);
    this.#table = table;
    const unknown = model['unk_token'];
    this.unknownId = typeof unknown === 'string' ? (table.idOf(unknown) ?? null) : null;
    this.#takesWholes = model['ignore_merges'] === true;
    this.#fallsBackToBytes = model['byte_fallback'] === true;
    this.#fusesUnknown = model['fuse_unk'] === true;
    const merges = listOf(model['merges']);
    this.#joined = new Int32Array(merges.length);
    for (let rank = 0; rank < merges.length; rank++) this.#addMerge(merges[rank], rank);
  }

  /** The piece's token ids. */
  *encode(piece: string): Steps<number[]> {
    const whole = this.#takesWholes ? this.#table.idOf(piece) : undefined;
    if (whole !== undefined) return [whole];
    const { symbols, unknown } = yield* this.#symbols(piece);
    return yield* this.#spellUnknown(yield* this.#merge(symbols), unknown);
  }

  /** The same without merges: a token a character. */
  *spell(piece: string): Steps<number[]> {
    const { symbols, unknown } = yield* this.#symbols(piece);
    return yield* this.#spellUnknown(symbols, unknown);
  }

  *#symbols(piece: string): Steps<{ readonly symbols: number[]; readonly unknown: readonly string[] }> {
    const symbols: number[] = [];
    const unknown: string[] = [];
    for (const character of piece) {
      const id = this.#table.idOf(character) ?? UNKNOWN;
      if (id === UNKNOWN) unknown.push(character);
      symbols.push(id);
      if (symbols.length % WORK_PER_STEP === 0) yield;
    }
    return { symbols, unknown };
  }

  *#merge(symbols: number[]): Steps<number[]> {
    const length = symbols.length;
    const next = new Int32Array(length);
    const previous = new Int32Array(length);
    /** By symbol: the rank of the merge with the one behind it. */
    const ranks = new Int32Array(length);
    /** rank * RADIX + symbol; those whose symbol has another rank by now are out of date. */
    const queue = new MinHeap();
    const rankAt = (at: number): void => {
      const right = next[at]! < length ? symbols[next[at]!]! : UNKNOWN;
      const rank = this.#ranks.get(symbols[at]! * RADIX + right) ?? NONE;
      ranks[at] = rank;
      if (rank !== NONE) queue.push(rank * RADIX + at);
    };
    let work = 0;
    for (let at = 0; at < length; at++) {
      next[at] = at + 1;
      previous[at] = at - 1;
      rankAt(at);
      if (++work % WORK_PER_STEP === 0) yield;
    }
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
      if (++work % WORK_PER_STEP === 0) yield;
      const at = item % RADIX;
      const rank = (item - at) / RADIX;
      if (ranks[at] !== rank) continue;
      const taken = next[at]!;
      const after = next[taken]!;
      symbols[at] = this.#joined[rank]!;
      ranks[taken] = NONE;
      next[at] = after;
      if (after < length) previous[after] = at;
      rankAt(at);
      if (at > 0) rankAt(previous[at]!);
    }
    const ids: number[] = [];
    for (let at = 0; at < length; at = next[at]!) if (ids.push(symbols[at]!) % TEXT_PER_STEP === 0) yield;
    return ids;
  }

  /** Each unknown character as its bytes, or as the unknown token, or as nothing. */
  *#spellUnknown(ids: number[], characters: readonly string[]): Steps<number[]> {
    if (characters.length === 0) return ids;
    const spelled: number[] = [];
    const isDue = countWork(WORK_PER_STEP);
    let count = 0;
    for (const [index, id] of ids.entries()) {
      if (id !== UNKNOWN) spelled.push(id);
      else {
        const bytes = this.#fallsBackToBytes ? this.#byteIds(characters[count]!) : null;
        const isFused = this.#fusesUnknown && ids[index - 1] === UNKNOWN && spelled.at(-1) === this.unknownId;
        if (bytes !== null) spelled.push(...bytes);
        else if (this.unknownId !== null && !isFused) spelled.push(this.unknownId);
        count++;
      }
      if (isDue(1)) yield;
    }
    return spelled;
  }

  #byteIds(character: string): number[] | null {
    const ids = Array.from(new TextEncoder().encode(character), (byte) => this.#table.idOf(byteToken(byte)));
    return ids.every((id) => id !== undefined) ? ids : null;
  }

  #addMerge(merge: unknown, rank: number): void {
    const [left, right]: readonly unknown[] = typeof merge === 'string' ? merge.split(' ') : listOf(merge);
    const leftId = this.#table.idOf(String(left));
    const rightId = this.#table.idOf(String(right));
    const joined = this.#table.idOf(`${String(left)}${String(right)}`);
    if (leftId === undefined || rightId === undefined || joined === undefined)
      throw invalidTokenizer(
        `Expected \`model.merges.${rank}\` to join two tokens into a third, got ${JSON.stringify(merge)}`,
      );
    this.#ranks.set(leftId * RADIX + rightId, rank);
    this.#joined[rank] = joined;
  }
}
