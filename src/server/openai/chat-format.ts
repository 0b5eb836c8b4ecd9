// chat.completion and chat.completion.chunk. A chunk's constant parts are serialized once for each answer.

import type { TextTokenizer } from '../../tokenizer/types.js';
import type { AnswerFormat, Choice } from '../answer.js';
import { event } from '../event-stream.js';
import type { Usage } from '../generation-job.js';
import type { Piece, ScoredToken } from '../text-stream.js';
import { chatTokenText, wireLogprob } from './token-text.js';
import { wireUsage } from './usage.js';

export interface AnswerHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export interface ChatFormatOptions {
  readonly head: AnswerHead;
  readonly tokenizer: TextTokenizer;
  readonly logprobs: boolean;
  readonly includeUsage: boolean;
}

export class ChatFormat implements AnswerFormat {
  readonly #options: ChatFormatOptions;
  /** `data: {"id":...,"choices":[{"index":` */
  readonly #before: string;
  readonly #after: string;

  constructor(options: ChatFormatOptions) {
    this.#options = options;
    const head = JSON.stringify({ ...options.head, object: 'chat.completion.chunk' });
    this.#before = `data: ${head.slice(0, -1)},"choices":[{"index":`;
    this.#after = options.includeUsage ? '}],"usage":null}\n\n' : '}]}\n\n';
  }

  whole(choices: readonly Choice[], usage: Usage): object {
    return {
      ...this.#options.head,
      object: 'chat.completion',
      choices: choices.map((choice, index) => ({
        index,
        message: { role: 'assistant', content: choice.text, refusal: null },
        logprobs: this.#options.logprobs ? this.#logprobs(choice.tokens) : null,
        finish_reason: choice.finishReason,
      })),
      usage: wireUsage(usage),
    };
  }

  openingEvent(index: number): string {
    return this.#chunk(index, '{"role":"assistant","content":"","refusal":null}', 'null', 'null');
  }

  promptEvent(): string {
    return '';
  }

  pieceEvent(index: number, { text, tokens }: Piece): string {
    const logprobs = tokens.length > 0 ? JSON.stringify(this.#logprobs(tokens)) : 'null';
    return this.#chunk(index, `{"content":${JSON.stringify(text)}}`, logprobs, 'null');
  }

  finishEvent(index: number, reason: 'stop' | 'length'): string {
    return this.#chunk(index, '{}', 'null', `"${reason}"`);
  }

  usageEvent(usage: Usage): string {
    return event({
      ...this.#options.head,
      object: 'chat.completion.chunk',
      choices: [],
      usage: wireUsage(usage),
    });
  }

  #chunk(index: number, delta: string, logprobs: string, finishReason: string): string {
    return `${this.#before}${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finishReason}${this.#after}`;
  }

  #logprobs(tokens: readonly ScoredToken[]): object {
    return {
      content: tokens.map(({ score }) => ({
        ...this.#token(score.token, score.logprob),
        top_logprobs: score.top.map(([token, logprob]) => this.#token(token, logprob)),
      })),
      refusal: null,
    };
  }

  #token(token: number, logprob: number): object {
    const { tokenizer } = this.#options;
    return {
      token: chatTokenText(token, tokenizer),
      logprob: wireLogprob(logprob),
      bytes: [...tokenizer.tokenBytes(token)],
    };
  }
}
