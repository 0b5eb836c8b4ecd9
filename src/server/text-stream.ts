// One sequence's tokens as pieces of text: decoded to whole characters, cut before a stop string, each token's
// log-probability given out with the text it begins. Pure: no clock, no I/O, no wire format.

import type { TokenLogprob } from '../engine/types.js';
import type { StreamDecoder } from '../tokenizer/types.js';
import { StopMatcher } from './stop-matcher.js';

export interface ScoredToken {
  readonly score: TokenLogprob;
  /** Where the token's text begins in the sequence's text, in UTF-16 units; the end of the text where it was cut before. */
  readonly offset: number;
}

export interface Piece {
  readonly text: string;
  /** In order; over a whole sequence each token exactly once, those of the stop string included. Empty without log-probabilities. */
  readonly tokens: readonly ScoredToken[];
}

const NO_TOKENS: readonly ScoredToken[] = [];

export class TextStream {
  readonly #decoder: StreamDecoder;
  readonly #matcher: StopMatcher;
  #numDecoded = 0;
  #numEmitted = 0;
  /** Tokens whose text is still held back; offsets never fall. */
  #pending: ScoredToken[] = [];

  constructor(decoder: StreamDecoder, stops: readonly string[]) {
    this.#decoder = decoder;
    this.#matcher = new StopMatcher(stops);
  }

  /** A stop string ended the text; the piece that saw it is the last one. */
  get stopped(): boolean {
    return this.#matcher.stopped;
  }

  /** What became certain with this token. Not to be called once stopped. */
  push(token: number, score: TokenLogprob | null): Piece {
    if (score !== null) this.#pending.push({ score, offset: this.#numDecoded });
    const decoded = this.#decoder.push(token);
    this.#numDecoded += decoded.length;
    return this.#emit(this.#matcher.push(decoded), this.#matcher.stopped);
  }

  /** What is left when no stop string ended the text. */
  finish(): Piece {
    const text = this.#matcher.push(this.#decoder.flush()) + this.#matcher.flush();
    return this.#emit(text, true);
  }

  #emit(text: string, isLast: boolean): Piece {
    this.#numEmitted += text.length;
    if (this.#pending.length === 0) return { text, tokens: NO_TOKENS };
    const end = this.#numEmitted;
    const numReady = isLast
      ? this.#pending.length
      : this.#pending.filter((token) => token.offset < end).length;
    const tokens = this.#pending.slice(0, numReady);
    this.#pending = this.#pending.slice(numReady);
    return { text, tokens: isLast ? tokens.map((token) => cutAt(token, end)) : tokens };
  }
}

function cutAt(token: ScoredToken, end: number): ScoredToken {
  return token.offset <= end ? token : { ...token, offset: end };
}
