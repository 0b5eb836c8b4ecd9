// Tells from a text's length alone that it has more tokens than asked for: no token stands for more characters than the longest has.
// Exact, never a guess: characters that may end up in no token are not counted.

import { flatten, type TokenTable } from './token-table.js';
import { fieldsOf } from './tokenizer-files.js';

export class LengthBound {
  /** Of one token; Infinity where nothing can be told. */
  readonly #maxCharacters: number;
  /** Matches ASCII characters that have no token; null where all have one. */
  readonly #leftOut: RegExp | null;

  constructor(tokenizerJson: object, table: TokenTable) {
    this.#maxCharacters = keepsText(tokenizerJson, table) ? table.longest : Infinity;
    const ascii = table.missingBytes.filter((byte) => byte < 0x80);
    const escaped = ascii.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
    this.#leftOut = ascii.length === 0 ? null : new RegExp(`[${escaped.join('')}]+`, 'g');
  }

  /** Whether `text`, as the pre-tokenizer gets it, certainly has more tokens. */
  exceeds(text: string, maxTokens: number): boolean {
    const most = maxTokens * this.#maxCharacters;
    if (text.length <= most) return false;
    return this.#leftOut === null || text.replace(this.#leftOut, '').length > most;
  }
}

/** Whether every character beyond ASCII has at least a token for each of its UTF-16 units, were none merged. */
function keepsText(tokenizerJson: object, { missingBytes }: TokenTable): boolean {
  const json = fieldsOf(tokenizerJson);
  const steps = flatten(json['pre_tokenizer'], 'pretokenizers');
  if (steps.some(({ invert }) => invert === true)) return false;
  // In UTF-8, all bytes of a character but the first are of this range.
  if (steps.some(({ type }) => type === 'ByteLevel'))
    return !missingBytes.some((byte) => byte >= 0x80 && byte < 0xc0);
  return fieldsOf(json['model'])['byte_fallback'] === true && missingBytes.length === 0;
}
