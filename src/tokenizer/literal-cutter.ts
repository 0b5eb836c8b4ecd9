// Finds added tokens in text, by their literals.

import { literalPattern } from './protected-text.js';
import { type AddedToken } from './tokenizer-files.js';

/** Cuts text at the longest of its tokens' literals. */
export class LiteralCutter {
  readonly #pattern: RegExp | null;
  readonly #tokens: ReadonlyMap<string, AddedToken>;

  constructor(tokens: readonly AddedToken[]) {
    this.#pattern = literalPattern(tokens.map(({ content }) => content));
    this.#tokens = new Map(tokens.map((token) => [token.content, token]));
  }

  /** The tokens and the text between them, without what they strip and without empty pieces. Looks no further than it is asked to. */
  *cut(text: string): Generator<string | AddedToken> {
    let start = 0;
    let strips = false;
    for (const match of this.#pattern === null ? [] : text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(match[0])!;
      const between = stripped(text.slice(start, match.index), strips, token.lstrip);
      if (between !== '') yield between;
      yield token;
      start = match.index + match[0].length;
      strips = token.rstrip;
    }
    const rest = stripped(text.slice(start), strips, false);
    if (rest !== '') yield rest;
  }
}

function stripped(text: string, atStart: boolean, atEnd: boolean): string {
  const left = atStart ? text.trimStart() : text;
  return atEnd ? left.trimEnd() : left;
}
