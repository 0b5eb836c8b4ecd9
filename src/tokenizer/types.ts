// Text to token ids and back, and chat messages to a prompt: the protocol that server/ sees.

export interface ChatMessage {
  readonly role: string;
  readonly content: string | null;
  readonly [key: string]: unknown;
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
  encode(text: string, options?: { readonly allowSpecial?: boolean; readonly addBos?: boolean }): number[];
  /**
   * Renders the chat template and encodes it: the template's special tokens are ids, those in message contents stay text.
   * Throws GatewayError invalid_value where the template refuses the messages, unsupported_parameter where there is none.
   */
  encodeChat(
    messages: readonly ChatMessage[],
    options?: {
      readonly addGenerationPrompt?: boolean;
      readonly variables?: Readonly<Record<string, unknown>>;
    },
  ): number[];
  decode(tokens: readonly number[], options?: { readonly skipSpecial?: boolean }): string;
  /** The raw bytes of one token (`bytes` in log-probabilities). */
  tokenBytes(token: number): Uint8Array;
  isSpecial(token: number): boolean;
  /** Special tokens give no text. */
  streamDecoder(): StreamDecoder;
}
