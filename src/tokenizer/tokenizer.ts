// The tokenizer of a base, made from its Hugging Face files: text and chats to token ids, ids to text.

import { GatewayError } from '../errors.js';
import { BpeEncoder, leadingToken } from './bpe-encoder.js';
import { ChatTemplate } from './chat-template.js';
import { SpecialLiterals } from './protected-text.js';
import { runSteps, type Steps, WORK_PER_STEP } from './steps.js';
import { TokenDecoder } from './token-decoder.js';
import { TokenTable } from './token-table.js';
import {
  chatTemplateText,
  fieldsOf,
  generationEosIds,
  isTokenId,
  namedSpecialTokens,
  type TokenizerFiles,
} from './tokenizer-files.js';
import {
  type ChatMessage,
  type ChatOptions,
  type StreamDecoder,
  type TextOptions,
  type TextTokenizer,
} from './types.js';

/**
 * Reads the files once and checks them. `now` is the clock of templates that print a date.
 * Throws GatewayError invalid_file where a file is broken, unsupported_model naming what is not supported.
 */
export function createTokenizer(
  files: TokenizerFiles,
  options: { readonly now?: () => Date } = {},
): TextTokenizer {
  return new HuggingFaceTokenizer(files, options.now ?? (() => new Date()));
}

class HuggingFaceTokenizer implements TextTokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly chatTemplateHash: string | null;
  readonly #table: TokenTable;
  readonly #encoder: BpeEncoder;
  readonly #template: ChatTemplate | null;
  readonly #specials: SpecialLiterals;
  readonly #addsBos: boolean;

  constructor(files: TokenizerFiles, now: () => Date) {
    this.#table = new TokenTable(files.tokenizerJson);
    this.#encoder = new BpeEncoder(files.tokenizerJson, this.#table);
    const named = namedSpecialTokens(files.tokenizerConfig);
    this.vocabSize = this.#table.size;
    this.bosTokenId = idOf(this.#table, named['bos_token']);
    this.eosTokenIds = eosIds(files, this.#table, named['eos_token']);
    this.#addsBos = addsBos(files, named['bos_token']);
    const template = chatTemplateText(files);
    this.#template = template === null ? null : new ChatTemplate(template, named, now);
    this.chatTemplateHash = this.#template?.hash ?? null;
    this.#specials = new SpecialLiterals(this.#table.specials.map(({ content }) => content));
  }

  encode(text: string, options?: TextOptions): number[] {
    return runSteps(this.encodeSteps(text, options));
  }

  *encodeSteps(text: string, options: TextOptions = {}): Steps<number[]> {
    const { allowSpecial: takeSpecial = false, addBos = true, limit } = options;
    const ids = yield* this.#encoder.encode(text, { takeSpecial, limit });
    const bos = this.bosTokenId;
    return this.#addsBos && addBos && bos !== null && ids[0] !== bos ? [bos, ...ids] : ids;
  }

  encodeChat(messages: readonly ChatMessage[], options?: ChatOptions): number[] {
    return runSteps(this.encodeChatSteps(messages, options));
  }

  /** Adds no BOS: the template writes it where the base wants one. */
  *encodeChatSteps(messages: readonly ChatMessage[], options: ChatOptions = {}): Steps<number[]> {
    if (this.#template === null)
      throw new GatewayError(
        'unsupported_parameter',
        'This base has no chat template: send a prompt to /v1/completions instead of `messages`',
        { param: 'messages' },
      );
    const { addGenerationPrompt = true, variables = {}, limit } = options;
    // Each takes a token at least; to render very many takes seconds.
    if (limit !== undefined && messages.length > limit.maxTokens) throw limit.exceeded();
    const characters = messages.reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
    const isLong = characters > WORK_PER_STEP;
    if (isLong) yield;
    const chat = yield* this.#template.render(messages, { addGenerationPrompt, variables }, this.#specials);
    if (isLong) yield;
    return yield* this.#encoder.encode(chat.text, {
      takeSpecial: true,
      limit,
      restore: (part) => chat.restore(part),
    });
  }

  /** An id without a token, such as a padding row of the embedding, gives no text. */
  decode(tokens: readonly number[], options: { readonly skipSpecial?: boolean } = {}): string {
    const decoder = new TokenDecoder(this.#table, options.skipSpecial === true);
    return tokens.map((token) => decoder.push(checked(token))).join('') + decoder.flush();
  }

  tokenBytes(token: number): Uint8Array {
    return this.#table.bytes(checked(token));
  }

  isSpecial(token: number): boolean {
    return this.#table.isSpecial(token);
  }

  streamDecoder(): StreamDecoder {
    return new TokenDecoder(this.#table, true);
  }
}

function checked(token: number): number {
  if (!isTokenId(token))
    throw new GatewayError(
      'invalid_value',
      `Expected a token id, a whole number from 0, got \`${String(token)}\``,
      {
        param: 'tokens',
      },
    );
  return token;
}

function idOf(table: TokenTable, content: string | undefined): number | null {
  return content === undefined ? null : (table.idOf(content) ?? null);
}

/** The generation config's ids, then the config's eos_token. */
function eosIds(files: TokenizerFiles, table: TokenTable, eosToken: string | undefined): readonly number[] {
  const named = idOf(table, eosToken);
  return [...new Set([...generationEosIds(files.generationConfig), ...(named === null ? [] : [named])])];
}

/** `add_bos_token` where the config says it, else what the post-processor does. */
function addsBos(files: TokenizerFiles, bosToken: string | undefined): boolean {
  const said = fieldsOf(files.tokenizerConfig)['add_bos_token'];
  if (typeof said === 'boolean') return said;
  return bosToken !== undefined && leadingToken(files.tokenizerJson) === bosToken;
}
