// One request in the engine: its tokens, how far its K/V has come, and the stream of events to its caller.

import type { ServingAdapter } from '../adapters/types.js';
import { DraftSize } from './prompt-lookup.js';
import { randomStream } from './random.js';
import { adjustLogits, sampleToken, tokenLogprob, type TokenCounts } from './sampler.js';
import type { FinishReason, GenerationEvent, GenerationRequest, TokenLogprob } from './types.js';

export class Sequence {
  readonly request: GenerationRequest;
  readonly adapter: ServingAdapter | null;
  /** Virtual tokens in front of the prompt (prefix adapters). */
  readonly numVirtual: number;
  readonly promptLogprobs: (TokenLogprob | null)[] | null;
  /** Prompt, then generated. */
  readonly tokens: number[];
  readonly numPrompt: number;
  /** Tokens of `tokens` whose K/V is in the slot. */
  numComputed = 0;
  /** Tokens that came from the prefix cache. */
  numCached = 0;
  /** What sets its keys and values apart in the prompt-prefix cache: the form of rounded merged weights, or ''. */
  rounding = '';
  /** Counts the sequences that got a slot before this one. */
  admission = 0;
  readonly draftSize = new DraftSize();
  readonly #coin: () => number;
  readonly #eosTokenIds: readonly number[];
  readonly #generated = new Map<number, number>();
  readonly #prompt: ReadonlySet<number>;
  readonly #events: GenerationEvent[] = [];
  #wake: (() => void) | null = null;
  #failure: Error | null = null;
  #finished = false;

  constructor(request: GenerationRequest, eosTokenIds: readonly number[], drawSeed: () => number) {
    this.request = request;
    this.adapter = request.adapter;
    this.numVirtual = request.adapter?.kind === 'prefix' ? request.adapter.numVirtualTokens : 0;
    this.promptLogprobs = request.promptLogprobs ? [null] : null;
    this.tokens = [...request.promptTokens];
    this.numPrompt = this.tokens.length;
    this.#coin = randomStream(request.sampling.seed ?? drawSeed());
    this.#eosTokenIds = eosTokenIds;
    this.#prompt = new Set(request.sampling.repetitionPenalty === 1 ? [] : this.tokens);
  }

  get finished(): boolean {
    return this.#finished;
  }

  get numGenerated(): number {
    return this.tokens.length - this.numPrompt;
  }

  /** K/V rows in use: virtual and computed tokens. */
  get length(): number {
    return this.numVirtual + this.numComputed;
  }

  /** The most K/V rows it can come to use. */
  get maxLength(): number {
    return this.numVirtual + this.numPrompt + this.request.sampling.maxTokens;
  }

  /** Draws the next token from its row of logits [V], which is used as scratch, and reports it. */
  advance(logits: Float32Array): void {
    const { sampling } = this.request;
    const early = this.numGenerated < sampling.minTokens;
    const stops = sampling.ignoreEos
      ? sampling.stopTokenIds
      : [...this.#eosTokenIds, ...sampling.stopTokenIds];
    const counts: TokenCounts = { generated: this.#generated, prompt: this.#prompt };
    const raw = sampling.logprobs === null ? null : logits.slice();
    adjustLogits(logits, sampling, counts, early ? stops : []);
    const token = sampleToken(logits, sampling, this.#coin);
    if (stops.includes(token)) {
      this.finish('stop', token);
      return;
    }
    this.tokens.push(token);
    this.#generated.set(token, (this.#generated.get(token) ?? 0) + 1);
    const logprob = raw === null ? null : tokenLogprob(raw, token, sampling.logprobs ?? 0);
    this.emit({ type: 'token', token, logprob });
    if (this.numGenerated >= sampling.maxTokens) this.finish('length', null);
  }

  emit(event: GenerationEvent): void {
    this.#events.push(event);
    this.#wake?.();
  }

  finish(reason: FinishReason, stopToken: number | null): void {
    if (this.#finished) return;
    this.#finished = true;
    this.emit({ type: 'finish', reason, stopToken });
  }

  fail(error: Error): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#failure = error;
    this.#wake?.();
  }

  /**
   * Events in order until the last; throws what fail() was given. `onClose` runs however the reader stops, at once on return():
   * a generator alone would leave out its `finally` before the first next(), and hold it back while a next() is pending.
   */
  events(onClose: () => void): AsyncGenerator<GenerationEvent, void, undefined> {
    const events = this.#read(onClose);
    const stop = events.return.bind(events);
    events.return = (value) => {
      onClose();
      return stop(value);
    };
    return events;
  }

  async *#read(onClose: () => void): AsyncGenerator<GenerationEvent, void, undefined> {
    try {
      for (let next = 0; ;) {
        while (next < this.#events.length) {
          const event = this.#events[next++]!;
          yield event;
          if (event.type === 'finish') return;
        }
        this.#events.length = 0;
        next = 0;
        if (this.#failure !== null) throw this.#failure;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      onClose();
    }
  }
}
