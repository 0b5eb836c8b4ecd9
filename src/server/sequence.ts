// One engine request as the server sees it: its events turned into pieces of text, its cancellation, its measurements.
// Ends exactly once, in one counted outcome.

import type { GenerationEvent, TokenLogprob } from '../engine/types.js';
import type { SequenceOutcome, ServerMetrics } from './metrics.js';
import type { Piece, TextStream } from './text-stream.js';

export type PromptScores = readonly (TokenLogprob | null)[];

/** Hears a sequence's life in order: the prompt once, pieces, the end once (not at all where it was cancelled). */
export interface SequenceListener {
  prompt(index: number, scores: PromptScores | null): void;
  /** Never an empty piece. */
  piece(index: number, piece: Piece): void;
  finish(index: number, reason: 'stop' | 'length'): void;
}

export interface SequenceParts {
  readonly index: number;
  readonly numPromptTokens: number;
  readonly events: AsyncGenerator<GenerationEvent, void, undefined>;
  readonly abort: AbortController;
  readonly text: TextStream;
  readonly metrics: ServerMetrics;
}

export class Sequence {
  readonly #parts: SequenceParts;
  readonly #startedMs: number;
  #firstTokenMs: number | null = null;
  #lastTokenMs = 0;
  #numTokens = 0;
  #numCachedTokens = 0;
  #hasRunPrompt = false;
  #reason: 'stop' | 'length' | null = null;

  constructor(parts: SequenceParts) {
    this.#parts = parts;
    this.#startedMs = parts.metrics.now();
  }

  get numTokens(): number {
    return this.#numTokens;
  }

  get numCachedTokens(): number {
    return this.#numCachedTokens;
  }

  /** The prompt was computed, or found in the cache. */
  get hasRunPrompt(): boolean {
    return this.#hasRunPrompt;
  }

  cancel(): void {
    this.#parts.abort.abort();
  }

  /** Runs until the engine has let go of it. False where it was cancelled. Throws what the engine throws. */
  async run(listener: SequenceListener): Promise<boolean> {
    let outcome: SequenceOutcome = 'error';
    try {
      for await (const event of this.#parts.events) this.#take(event, listener);
      outcome = this.#reason ?? 'abort';
    } finally {
      this.#record(outcome);
    }
    return this.#reason !== null;
  }

  #take(event: GenerationEvent, listener: SequenceListener): void {
    const { index, metrics, numPromptTokens, text } = this.#parts;
    switch (event.type) {
      case 'prompt':
        this.#hasRunPrompt = true;
        this.#numCachedTokens = event.numCachedTokens;
        metrics.promptRan(numPromptTokens);
        listener.prompt(index, event.promptLogprobs);
        return;
      case 'token':
        if (!text.stopped) this.#takeToken(event.token, event.logprob, listener);
        return;
      case 'finish':
        if (event.reason === 'cancelled' || text.stopped) return;
        this.#give(text.finish(), listener);
        this.#finish(text.stopped ? 'stop' : event.reason, listener);
    }
  }

  #takeToken(token: number, score: TokenLogprob | null, listener: SequenceListener): void {
    const { metrics, text } = this.#parts;
    this.#lastTokenMs = metrics.now();
    this.#firstTokenMs ??= this.#lastTokenMs;
    this.#numTokens++;
    metrics.tokenGenerated();
    this.#give(text.push(token, score), listener);
    if (!text.stopped) return;
    this.#finish('stop', listener);
    this.cancel();
  }

  #give(piece: Piece, listener: SequenceListener): void {
    if (piece.text !== '' || piece.tokens.length > 0) listener.piece(this.#parts.index, piece);
  }

  #finish(reason: 'stop' | 'length', listener: SequenceListener): void {
    this.#reason = reason;
    listener.finish(this.#parts.index, reason);
  }

  #record(outcome: SequenceOutcome): void {
    this.#parts.metrics.sequenceEnded({
      outcome,
      startedMs: this.#startedMs,
      firstTokenMs: this.#firstTokenMs,
      lastTokenMs: this.#lastTokenMs,
      numTokens: this.#numTokens,
    });
  }
}
