// Tokens as text in log-probability lists. A token may be part of a character: such bytes are written as \xNN.

import type { TextTokenizer } from '../../tokenizer/types.js';

/** JSON has no infinities; this is what OpenAI's API gives for an impossible token. */
const LEAST_LOGPROB = -9999;

/** Text where the token's bytes are whole characters, else null. */
function wholeText(bytes: Uint8Array): string | null {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  return text.includes('\uFFFD') && !Buffer.from(text).equals(bytes) ? null : text;
}

function escaped(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

/** As chat completions write it: `\xf0\x9f`. */
export function chatTokenText(token: number, tokenizer: TextTokenizer): string {
  const bytes = tokenizer.tokenBytes(token);
  return wholeText(bytes) ?? escaped(bytes);
}

/** As text completions write it: `bytes:\xf0\x9f`. */
export function completionTokenText(token: number, tokenizer: TextTokenizer): string {
  const bytes = tokenizer.tokenBytes(token);
  return wholeText(bytes) ?? `bytes:${escaped(bytes)}`;
}

export function wireLogprob(logprob: number): number {
  return Math.max(logprob, LEAST_LOGPROB);
}
