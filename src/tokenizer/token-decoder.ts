// Token ids to text, a token at a time: bytes are held back until they make whole characters.

import { type TokenTable } from './token-table.js';
import { type StreamDecoder } from './types.js';

/** The same code decodes whole sequences and streams, so both give the same text. */
export class TokenDecoder implements StreamDecoder {
  readonly #table: TokenTable;
  readonly #skipSpecial: boolean;
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  #atStart = true;

  constructor(table: TokenTable, skipSpecial: boolean) {
    this.#table = table;
    this.#skipSpecial = skipSpecial;
  }

  push(token: number): string {
    if (this.#skipSpecial && this.#table.isSpecial(token)) return '';
    const bytes = this.#table.bytes(token);
    return this.#utf8.decode(this.#withoutFirstSpace(bytes), { stream: true });
  }

  flush(): string {
    return this.#utf8.decode();
  }

  #withoutFirstSpace(bytes: Uint8Array): Uint8Array {
    if (!this.#atStart || bytes.length === 0) return bytes;
    this.#atStart = false;
    return this.#table.dropsFirstSpace && bytes[0] === 0x20 ? bytes.subarray(1) : bytes;
  }
}
