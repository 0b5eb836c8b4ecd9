// An engine without a model: it answers with scripted tokens, or with seeded random bytes, under the engine's protocol
// (queued at once, cancels at the next token, exactly one finish). Every token has the uniform log-probability.

import { GatewayError } from '../../src/errors.js';
import type {
  Engine,
  EngineStats,
  GenerationEvent,
  GenerationRequest,
  TokenLogprob,
} from '../../src/engine/types.js';
import { bytesOf, TURN_END } from './byte-tokenizer.js';

export interface FakeEngineOptions {
  /** Tokens to answer with; then the end of the turn. Without it: random letters for ever. */
  readonly script?: (request: GenerationRequest, index: number) => readonly number[];
  readonly contextLength?: number;
  /** How many requests may run at once; more is queue_full. */
  readonly capacity?: number;
  /** Throws after this many tokens. */
  readonly failAfter?: number;
  /** Waits before each token after the first `freeTokens` until step() is called. */
  readonly freeTokens?: number;
  readonly numCachedTokens?: number;
  readonly stats?: Partial<EngineStats>;
}

const VOCAB_SIZE = 259;
/** Several seconds of an event loop that does nothing else. */
const MAX_TURNS = 5_000_000;
export const UNIFORM_LOGPROB = -Math.log(VOCAB_SIZE);

export const says = (text: string) => () => bytesOf(text);

export class FakeEngine implements Engine {
  readonly contextLength: number;
  readonly vocabSize = VOCAB_SIZE;
  readonly requests: GenerationRequest[] = [];
  /** Generators that have not ended yet. */
  numRunning = 0;
  numCancelled = 0;
  /** Tokens and ends given out so far, over all requests. */
  numSteps = 0;
  readonly #options: FakeEngineOptions;
  #permits = 0;
  #isDisposed = false;
  #wakers: (() => void)[] = [];

  constructor(options: FakeEngineOptions = {}) {
    this.#options = options;
    this.contextLength = options.contextLength ?? 4096;
  }

  generate(request: GenerationRequest): AsyncGenerator<GenerationEvent, void, undefined> {
    this.#check(request);
    const index = this.requests.push(request) - 1;
    this.numRunning++;
    request.signal.addEventListener('abort', () => this.#wakeAll());
    return this.#run(request, index);
  }

  stats(): EngineStats {
    return {
      numRunning: this.numRunning,
      numWaiting: 0,
      numSlots: 16,
      kvUsage: 0.25,
      prefixCacheQueriedTokens: 100,
      prefixCacheHitTokens: 40,
      numSteps: 0,
      numDraftTokens: 10,
      numAcceptedTokens: 4,
      activeAdapters: [],
      waitingAdapters: [],
      ...this.#options.stats,
    };
  }

  /** Lets one waiting token (of any sequence) go on. */
  step(count = 1): void {
    this.#permits += count;
    this.#wakeAll();
  }

  /** Resolves when every generator has ended. */
  async idle(): Promise<void> {
    await this.until(() => this.numRunning === 0);
  }

  /** Resolves when the condition holds; it is asked again on each turn of the event loop. */
  async until(condition: () => boolean): Promise<void> {
    for (let turn = 0; !condition(); turn++) {
      if (turn > MAX_TURNS) throw new Error('what the test waits for does not happen');
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async dispose(): Promise<void> {
    this.#isDisposed = true;
    this.#wakeAll();
    await this.idle();
  }

  #check(request: GenerationRequest): void {
    const { capacity = Infinity } = this.#options;
    if (this.numRunning >= capacity) {
      throw new GatewayError('queue_full', 'The queue is full', { retryAfterS: 2.5 });
    }
    const length = request.promptTokens.length + request.sampling.maxTokens;
    if (length > this.contextLength) {
      throw new GatewayError(
        'context_length_exceeded',
        `${length} tokens do not fit in ${this.contextLength}`,
      );
    }
  }

  async *#run(request: GenerationRequest, index: number): AsyncGenerator<GenerationEvent, void, undefined> {
    try {
      yield {
        type: 'prompt',
        numCachedTokens: this.#options.numCachedTokens ?? 0,
        promptLogprobs: request.promptLogprobs ? promptScores(request) : null,
      };
      yield* this.#tokens(request, index);
    } finally {
      this.numRunning--;
    }
  }

  async *#tokens(
    request: GenerationRequest,
    index: number,
  ): AsyncGenerator<GenerationEvent, void, undefined> {
    const { failAfter = Infinity, freeTokens = Infinity } = this.#options;
    const { maxTokens, ignoreEos, logprobs } = request.sampling;
    const next = this.#source(request, index);
    for (let at = 0; ; at++) {
      if (at >= failAfter) throw new GatewayError('engine_failed', 'the engine broke');
      if (at >= freeTokens) await this.#permit(request.signal);
      this.numSteps++;
      if (request.signal.aborted || this.#isDisposed) {
        this.numCancelled++;
        yield { type: 'finish', reason: 'cancelled', stopToken: null };
        return;
      }
      if (at >= maxTokens) {
        yield { type: 'finish', reason: 'length', stopToken: null };
        return;
      }
      const token = next();
      if (token === TURN_END && !ignoreEos) {
        yield { type: 'finish', reason: 'stop', stopToken: token };
        return;
      }
      yield { type: 'token', token, logprob: logprobs === null ? null : score(token, logprobs) };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #source(request: GenerationRequest, index: number): () => number {
    const { script } = this.#options;
    if (script === undefined) return randomLetters(request.sampling.seed ?? index);
    const tokens = script(request, index);
    let at = 0;
    return () => tokens[at++] ?? TURN_END;
  }

  async #permit(signal: AbortSignal): Promise<void> {
    while (this.#permits === 0 && !signal.aborted && !this.#isDisposed) {
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
    if (this.#permits > 0) this.#permits--;
  }

  #wakeAll(): void {
    const wakers = this.#wakers;
    this.#wakers = [];
    for (const wake of wakers) wake();
  }
}

function promptScores(request: GenerationRequest): (TokenLogprob | null)[] {
  const count = request.sampling.logprobs ?? 0;
  return request.promptTokens.map((token, index) => (index === 0 ? null : score(token, count)));
}

function score(token: number, numTop: number): TokenLogprob {
  return {
    token,
    logprob: UNIFORM_LOGPROB,
    top: Array.from({ length: numTop }, (_, id) => [97 + id, UNIFORM_LOGPROB] as const),
  };
}

/** Lower-case letters from a 32-bit linear congruential generator. */
function randomLetters(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 97 + ((state >>> 16) % 26);
  };
}
