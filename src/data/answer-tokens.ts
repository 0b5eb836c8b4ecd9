// The tokens of an assistant's turn that are learned: what the rendered turn adds to the prompt that it is served with, up to the token
// that ends the turn. The header that opens the turn belongs to the prompt.

import { GatewayError } from '../errors.js';
import type { TextTokenizer } from '../tokenizer/types.js';

const MAX_SHOWN_TOKENS = 12;

/**
 * `prompt`: the messages before, with the generation prompt; `rendered`: the same with the answer, without one.
 * What follows the first token that ends a turn (a line break, in ChatML) is left out: a served answer ends there. Texts of messages
 * hold no such token.
 * Throws GatewayError unsupported_model where the rendered turn does not go on where the prompt ends.
 */
export function answerTokens(
  prompt: readonly number[],
  rendered: readonly number[],
  tokenizer: TextTokenizer,
): number[] {
  const added = continuation(prompt, rendered, tokenizer);
  if (added === null) throw notContinued(prompt, rendered, tokenizer);
  const end = added.findIndex((token) => tokenizer.eosTokenIds.includes(token));
  return end === -1 ? added : added.slice(0, end + 1);
}

export function commonPrefixLength(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/**
 * What `rendered` adds to `prompt`; null where it is none of its beginning. A token of `rendered` may span the seam ("\n" and "\n\n"
 * after a header that ends a line): a served model gets the prompt's own tokens, so the text behind the seam is encoded by itself.
 */
function continuation(
  prompt: readonly number[],
  rendered: readonly number[],
  tokenizer: TextTokenizer,
): number[] | null {
  const shared = commonPrefixLength(prompt, rendered);
  if (shared === prompt.length) return rendered.slice(shared);
  const left = prompt.slice(shared);
  if (left.some((token) => tokenizer.isSpecial(token))) return null;
  const special = rendered.findIndex((token, index) => index >= shared && tokenizer.isSpecial(token));
  const end = special === -1 ? rendered.length : special;
  const head = bytesOf(left, tokenizer);
  const text = bytesOf(rendered.slice(shared, end), tokenizer);
  if (!head.equals(text.subarray(0, head.length))) return null;
  const rest = text.subarray(head.length);
  const tokens = tokenizer.encode(rest.toString(), { addBos: false });
  return bytesOf(tokens, tokenizer).equals(rest) ? [...tokens, ...rendered.slice(end)] : null;
}

function bytesOf(tokens: readonly number[], tokenizer: TextTokenizer): Buffer {
  return Buffer.concat(tokens.map((token) => tokenizer.tokenBytes(token)));
}

function notContinued(
  prompt: readonly number[],
  rendered: readonly number[],
  tokenizer: TextTokenizer,
): GatewayError {
  const shared = commonPrefixLength(prompt, rendered);
  const show = (tokens: readonly number[]) =>
    JSON.stringify(tokenizer.decode(tokens.slice(shared, shared + MAX_SHOWN_TOKENS)));
  return new GatewayError(
    'unsupported_model',
    `The base's chat template does not write an answer where its generation prompt ends: after ${JSON.stringify(
      tokenizer.decode(prompt.slice(Math.max(0, shared - MAX_SHOWN_TOKENS), shared)),
    )} the prompt has ${show(prompt)}, the rendered answer ${show(rendered)}. Which tokens are the answer's cannot be told; train on a base whose template opens both alike`,
    { param: 'chat_template' },
  );
}
