// Text to token ids and back, and chat messages to a prompt: the protocol that server/ sees.

import { type GatewayError } from '../errors.js';
import { type Steps } from './steps.js';

export interface ChatMessage {
  readonly role: string;
  readonly content: string | null;
  readonly [key: string]: unknown;
}

/** The most tokens that a text may have. */
export interface TokenLimit {
  readonly maxTokens: number;
  /** What is thrown as soon as there are certainly more. */
  readonly exceeded: () => GatewayError;
}

export interface TextOptions {
  readonly allowSpecial?: boolean;
  readonly addBos?: boolean;
  readonly limit?: TokenLimit;
}

export interface ChatOptions {
  readonly addGenerationPrompt?: boolean;
  readonly variables?: Readonly<Record<string, unknown>>;
  readonly limit?: TokenLimit;
}

export interface StreamDecoder {
  /** The text that became certain with this token: never half a character. */
  push(token: number): string;
  /** What is left at the end (an unfinished character becomes U+FFFD). */
  flush(): string;
}

export interface TextTokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  /** Ids that end a text or a turn. */
  readonly eosTokenIds: readonly number[];
  /** sha256 of the chat template; null where the base has none. */
  readonly chatTemplateHash: string | null;
  /**
   * Text to ids. Special tokens written in the text are plain text unless `allowSpecial`; BOS goes in front if the base wants it
   * and `addBos` is not false, never twice.
   */
  encode(text: string, options?: TextOptions): number[];
  /** The same in steps of a few milliseconds, however long the text is. */
  encodeSteps(text: string, options?: TextOptions): Steps<number[]>;
  /**
   * Renders the chat template and encodes it: the template's special tokens are ids, those in message contents stay text.
   * Throws GatewayError invalid_value where the template refuses the messages, unsupported_parameter where there is none.
   */
  encodeChat(messages: readonly ChatMessage[], options?: ChatOptions): number[];
  /** The same in steps of a few milliseconds, however long the messages are and however many. */
  encodeChatSteps(messages: readonly ChatMessage[], options?: ChatOptions): Steps<number[]>;
  decode(tokens: readonly number[], options?: { readonly skipSpecial?: boolean }): string;
  /** The raw bytes of one token (`bytes` in log-probabilities). */
  tokenBytes(token: number): Uint8Array;
  isSpecial(token: number): boolean;
  /** Special tokens give no text. */
  streamDecoder(): StreamDecoder;
}
