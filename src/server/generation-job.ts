// All sequences of one HTTP request (prompts x n) and the adapter's lease they share: started together,
// cancelled together, and the lease given back once when the engine has let go of the last one.

import type { AdapterLease } from '../adapters/types.js';
import type { FairClaim, SamplingParams } from '../engine/types.js';
import type { GatewayError } from '../errors.js';
import type { Meter } from './metering.js';
import { withChoice } from './openai/sampling.js';
import { Sequence, type SequenceListener } from './sequence.js';
import type { Services } from './services.js';
import { TextStream } from './text-stream.js';

export interface GenerationPlan {
  readonly prompts: readonly { readonly tokens: readonly number[]; readonly sampling: SamplingParams }[];
  /** Choices for each prompt. */
  readonly n: number;
  readonly stops: readonly string[];
  /** Score the prompts too. */
  readonly promptLogprobs: boolean;
}

export interface Usage {
  readonly numPromptTokens: number;
  readonly numCachedTokens: number;
  readonly numCompletionTokens: number;
}

const SILENT: SequenceListener = { prompt: () => {}, piece: () => {}, finish: () => {} };

export class GenerationJob {
  readonly #plan: GenerationPlan;
  readonly #lease: AdapterLease | null;
  readonly #claim: FairClaim;
  readonly #meter: Meter;
  readonly #sequences: Sequence[] = [];
  #cancelReason: GatewayError | null = null;

  private constructor(plan: GenerationPlan, lease: AdapterLease | null, claim: FairClaim, meter: Meter) {
    this.#plan = plan;
    this.#lease = lease;
    this.#claim = claim;
    this.#meter = meter;
  }

  /**
   * Queues every sequence: choice i of prompt p is sequence p * n + i. Owns the lease and the meter from here on, whatever happens.
   * Throws what Engine.generate throws; then nothing of the job is left running.
   */
  static async start(
    services: Services,
    plan: GenerationPlan,
    lease: AdapterLease | null,
    claim: FairClaim,
    meter: Meter,
  ): Promise<GenerationJob> {
    const job = new GenerationJob(plan, lease, claim, meter);
    try {
      for (let index = 0; index < plan.prompts.length * plan.n; index++) {
        job.#sequences.push(job.#startSequence(services, index));
      }
    } catch (error) {
      job.cancel();
      await job.#runAll(SILENT);
      meter.release();
      throw error;
    }
    return job;
  }

  /** Ends every sequence within one step. The reason is what run() throws; null is a client that has gone. */
  cancel(reason: GatewayError | null = null): void {
    this.#cancelReason ??= reason;
    for (const sequence of this.#sequences) sequence.cancel();
  }

  /** Runs to the end and gives the lease back. Null where the job was cancelled without a reason. Throws the first failure. */
  async run(listener: SequenceListener): Promise<Usage | null> {
    const results = await this.#runAll(listener);
    const usage = this.#usage();
    this.#meter.settle(usage);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
    const isWhole = results.every((result) => result.status === 'fulfilled' && result.value);
    if (isWhole) return usage;
    if (this.#cancelReason !== null) throw this.#cancelReason;
    return null;
  }

  async #runAll(listener: SequenceListener): Promise<PromiseSettledResult<boolean>[]> {
    try {
      return await Promise.allSettled(
        this.#sequences.map(async (sequence) => {
          try {
            return await sequence.run(listener);
          } catch (error) {
            this.cancel();
            throw error;
          }
        }),
      );
    } finally {
      this.#lease?.release();
    }
  }

  #startSequence(services: Services, index: number): Sequence {
    const { n, prompts, promptLogprobs, stops } = this.#plan;
    const { tokens, sampling } = prompts[Math.floor(index / n)]!;
    const abort = new AbortController();
    const events = services.engine.generate({
      ...this.#claim,
      promptTokens: tokens,
      adapter: this.#lease?.adapter ?? null,
      sampling: withChoice(sampling, index % n),
      promptLogprobs,
      signal: abort.signal,
    });
    return new Sequence({
      index,
      numPromptTokens: tokens.length,
      events,
      abort,
      text: new TextStream(services.tokenizer.streamDecoder(), stops),
      metrics: services.metrics,
    });
  }

  /**
   * So far. A prompt counts once, however many choices it has, and not at all where it never ran; what its first choice found in the cache
   * is what was cached.
   */
  #usage(): Usage {
    const { n, prompts } = this.#plan;
    const hasRun = (index: number) =>
      this.#sequences.slice(index * n, (index + 1) * n).some((sequence) => sequence.hasRunPrompt);
    return {
      numPromptTokens: sum(prompts.map(({ tokens }, index) => (hasRun(index) ? tokens.length : 0))),
      numCachedTokens: sum(prompts.map((_, index) => this.#sequences[index * n]!.numCachedTokens)),
      numCompletionTokens: sum(this.#sequences.map((sequence) => sequence.numTokens)),
    };
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
