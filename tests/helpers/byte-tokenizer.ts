// A tokenizer whose ids are bytes, with three special ids after them. Its chat template is ChatML.

import { GatewayError } from '../../src/errors.js';
import type { ChatMessage, StreamDecoder, TextTokenizer } from '../../src/tokenizer/types.js';

export const BOS = 256;
export const TURN_START = 257;
export const TURN_END = 258;
const SPECIAL_NAMES = new Map([
  [BOS, '<bos>'],
  [TURN_START, '<start>'],
  [TURN_END, '<end>'],
]);

export const bytesOf = (text: string): number[] => [...Buffer.from(text)];

export class ByteTokenizer implements TextTokenizer {
  readonly vocabSize = 259;
  readonly bosTokenId: number | null;
  readonly eosTokenIds = [TURN_END];
  readonly chatTemplateHash = null;
  /** What encodeChat was given, newest last. */
  readonly chats: { messages: readonly ChatMessage[]; options: unknown }[] = [];

  constructor({ bos = false } = {}) {
    this.bosTokenId = bos ? BOS : null;
  }

  encode(text: string, { addBos = true }: { addBos?: boolean } = {}): number[] {
    return addBos && this.bosTokenId !== null ? [this.bosTokenId, ...bytesOf(text)] : bytesOf(text);
  }

  encodeChat(
    messages: readonly ChatMessage[],
    options: { addGenerationPrompt?: boolean; variables?: Readonly<Record<string, unknown>> } = {},
  ): number[] {
    this.chats.push({ messages, options });
    if (messages.some((message) => message.content === 'refused by the template')) {
      throw new GatewayError('invalid_value', 'the template refuses these messages', { param: 'messages' });
    }
    const turns = messages.flatMap((message) => [
      TURN_START,
      ...bytesOf(`${message.role}\n${message.content}`),
      TURN_END,
    ]);
    return options.addGenerationPrompt === true ? [...turns, TURN_START, ...bytesOf('assistant\n')] : turns;
  }

  decode(tokens: readonly number[], { skipSpecial = false }: { skipSpecial?: boolean } = {}): string {
    const parts = tokens.map((token) =>
      this.isSpecial(token) && skipSpecial ? new Uint8Array() : this.tokenBytes(token),
    );
    return Buffer.concat(parts).toString();
  }

  tokenBytes(token: number): Uint8Array {
    return token < 256 ? Uint8Array.of(token) : Buffer.from(SPECIAL_NAMES.get(token)!);
  }

  isSpecial(token: number): boolean {
    return token >= 256;
  }

  streamDecoder(): StreamDecoder {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      push: (token) => (token >= 256 ? '' : decoder.decode(Uint8Array.of(token), { stream: true })),
      flush: () => decoder.decode(),
    };
  }
}
