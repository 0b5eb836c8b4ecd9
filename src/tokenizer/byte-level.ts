// GPT-2's alphabet of bytes: printable Latin-1 stands for itself, the other 68 bytes are U+0100 and up in their order.

import { TEXT_PER_STEP } from './steps.js';

/** The character of each byte. */
export const BYTE_LEVEL_TOKENS: readonly string[] = alphabet();
const CODE_UNITS = Uint16Array.from(BYTE_LEVEL_TOKENS, (token) => token.charCodeAt(0));

/** The text's UTF-8 bytes in that alphabet; before it, undefined wherever a step ends. */
export function* spellBytes(text: string): Generator<string | undefined> {
  let spelled = '';
  for (let start = 0, end; start < text.length; start = end) {
    if (start > 0) yield undefined;
    end = start + TEXT_PER_STEP;
    // Not between the halves of a character.
    if (text.codePointAt(end - 1)! > 0xffff) end++;
    spelled += spell(text.slice(start, end));
  }
  yield spelled;
}

function spell(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const units = new Uint16Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) units[i] = CODE_UNITS[bytes[i]!]!;
  return new TextDecoder('utf-16le').decode(units);
}

function alphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
}
