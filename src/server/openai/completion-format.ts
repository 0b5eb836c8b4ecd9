// text_completion, whole and in chunks. With echo a choice begins with its prompt, and with logprobs that part is scored too.

import type { TokenLogprob } from '../../engine/types.js';
import type { TextTokenizer } from '../../tokenizer/types.js';
import type { AnswerFormat, Choice } from '../answer.js';
import { event } from '../event-stream.js';
import type { Usage } from '../generation-job.js';
import type { PromptScores } from '../sequence.js';
import type { Piece, ScoredToken } from '../text-stream.js';
import type { AnswerHead } from './chat-format.js';
import type { Prompt } from './completion-request.js';
import { completionTokenText, wireLogprob } from './token-text.js';
import { wireUsage } from './usage.js';

export interface CompletionFormatOptions {
  readonly head: AnswerHead;
  readonly tokenizer: TextTokenizer;
  readonly prompts: readonly Prompt[];
  readonly n: number;
  readonly echo: boolean;
  readonly logprobs: boolean;
  readonly includeUsage: boolean;
}

/** Parallel lists, one entry a token. */
interface WireLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

export class CompletionFormat implements AnswerFormat {
  readonly #options: CompletionFormatOptions;
  /** `data: {"id":...,"choices":[{"index":` */
  readonly #before: string;
  readonly #after: string;

  constructor(options: CompletionFormatOptions) {
    this.#options = options;
    const head = JSON.stringify({ ...options.head, object: 'text_completion' });
    this.#before = `data: ${head.slice(0, -1)},"choices":[{"index":`;
    this.#after = options.includeUsage ? '}],"usage":null}\n\n' : '}]}\n\n';
  }

  whole(choices: readonly Choice[], usage: Usage): object {
    return {
      ...this.#options.head,
      object: 'text_completion',
      choices: choices.map((choice, index) => ({
        index,
        text: this.#echoed(index) + choice.text,
        logprobs: this.#options.logprobs ? this.#wholeLogprobs(index, choice) : null,
        finish_reason: choice.finishReason,
      })),
      usage: wireUsage(usage),
    };
  }

  openingEvent(): string {
    return '';
  }

  promptEvent(index: number, scores: PromptScores | null): string {
    if (!this.#options.echo) return '';
    return this.#chunk(index, this.#prompt(index).text, this.#promptLogprobs(index, scores), 'null');
  }

  pieceEvent(index: number, { text, tokens }: Piece): string {
    return this.#chunk(index, text, tokens.length > 0 ? this.#logprobs(index, tokens) : null, 'null');
  }

  finishEvent(index: number, reason: 'stop' | 'length'): string {
    return this.#chunk(index, '', null, `"${reason}"`);
  }

  usageEvent(usage: Usage): string {
    return event({ ...this.#options.head, object: 'text_completion', choices: [], usage: wireUsage(usage) });
  }

  #chunk(index: number, text: string, logprobs: WireLogprobs | null, finishReason: string): string {
    const scored = logprobs === null ? 'null' : JSON.stringify(logprobs);
    return `${this.#before}${index},"text":${JSON.stringify(text)},"logprobs":${scored},"finish_reason":${finishReason}${this.#after}`;
  }

  #prompt(index: number): Prompt {
    return this.#options.prompts[Math.floor(index / this.#options.n)]!;
  }

  #echoed(index: number): string {
    return this.#options.echo ? this.#prompt(index).text : '';
  }

  #wholeLogprobs(index: number, choice: Choice): WireLogprobs {
    const prompt = this.#options.echo ? this.#promptLogprobs(index, choice.promptScores) : null;
    const answer = this.#logprobs(index, choice.tokens);
    if (prompt === null) return answer;
    return {
      tokens: [...prompt.tokens, ...answer.tokens],
      token_logprobs: [...prompt.token_logprobs, ...answer.token_logprobs],
      top_logprobs: [...prompt.top_logprobs, ...answer.top_logprobs],
      text_offset: [...prompt.text_offset, ...answer.text_offset],
    };
  }

  #promptLogprobs(index: number, scores: PromptScores | null): WireLogprobs | null {
    if (scores === null) return null;
    const { text, tokens } = this.#prompt(index);
    return {
      tokens: tokens.map((token) => completionTokenText(token, this.#options.tokenizer)),
      token_logprobs: scores.map((score) => (score === null ? null : wireLogprob(score.logprob))),
      top_logprobs: scores.map((score) => (score === null ? null : this.#top(score))),
      text_offset: this.#offsets(tokens, text.length),
    };
  }

  #logprobs(index: number, tokens: readonly ScoredToken[]): WireLogprobs {
    const start = this.#echoed(index).length;
    return {
      tokens: tokens.map(({ score }) => completionTokenText(score.token, this.#options.tokenizer)),
      token_logprobs: tokens.map(({ score }) => wireLogprob(score.logprob)),
      top_logprobs: tokens.map(({ score }) => this.#top(score)),
      text_offset: tokens.map(({ offset }) => start + offset),
    };
  }

  /** The alternatives and the token itself, so up to one more than was asked for. */
  #top({ token, logprob, top }: TokenLogprob): Record<string, number> {
    const pairs = [...top, [token, logprob] as const];
    return Object.fromEntries(
      pairs.map(([id, value]) => [completionTokenText(id, this.#options.tokenizer), wireLogprob(value)]),
    );
  }

  /** Where each prompt token's text begins. */
  #offsets(tokens: readonly number[], end: number): number[] {
    const decoder = this.#options.tokenizer.streamDecoder();
    let numDecoded = 0;
    return tokens.map((token) => {
      const offset = Math.min(numDecoded, end);
      numDecoded += decoder.push(token).length;
      return offset;
    });
  }
}
