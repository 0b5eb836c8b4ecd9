// A tokenizer whose ids are bytes, with three special ids after them. Its chat template is ChatML.

import { GatewayError } from '../../src/errors.js';
import { runSteps, type Steps } from '../../src/tokenizer/steps.js';
import type {
  ChatMessage,
  ChatOptions,
  StreamDecoder,
  TextOptions,
  TextTokenizer,
  TokenLimit,
} from '../../src/tokenizer/types.js';

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

  encode(text: string, options?: TextOptions): number[] {
    return runSteps(this.encodeSteps(text, options));
  }

  *encodeSteps(text: string, { addBos = true, limit }: TextOptions = {}): Steps<number[]> {
    const bos = addBos && this.bosTokenId !== null ? [this.bosTokenId] : [];
    return yield* bounded([...bos, ...bytesOf(text)], limit);
  }

  encodeChat(messages: readonly ChatMessage[], options?: ChatOptions): number[] {
    return runSteps(this.encodeChatSteps(messages, options));
  }

  *encodeChatSteps(messages: readonly ChatMessage[], options: ChatOptions = {}): Steps<number[]> {
    const { limit, ...given } = options;
    this.chats.push({ messages, options: given });
    if (messages.some((message) => message.content === 'refused by the template')) {
      throw new GatewayError('invalid_value', 'the template refuses these messages', { param: 'messages' });
    }
    const turns = messages.flatMap((message) => [
      TURN_START,
      ...bytesOf(`${message.role}\n${message.content}`),
      TURN_END,
    ]);
    const opening = options.addGenerationPrompt === true ? [TURN_START, ...bytesOf('assistant\n')] : [];
    return yield* bounded([...turns, ...opening], limit);
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

/** A step for each thousand tokens. */
function* bounded(tokens: number[], limit: TokenLimit | undefined): Steps<number[]> {
  if (limit !== undefined && tokens.length > limit.maxTokens) throw limit.exceeded();
  for (let done = 1000; done < tokens.length; done += 1000) yield;
  return tokens;
}
