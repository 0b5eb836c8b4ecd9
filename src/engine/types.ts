// The engine's protocol: token ids in, token ids out. Text, HTTP and names live elsewhere.

import type { ServingAdapter } from '../adapters/types.js';

export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 keeps all. */
  readonly topK: number;
  readonly minP: number;
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** 1 is none. */
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  /** null draws one. Same seed, same prompt, same adapter: same tokens, whatever else runs. */
  readonly seed: number | null;
  readonly maxTokens: number;
  /** No end-of-text or stop token before this many tokens. */
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  /** Ids that end the sequence besides the model's own; reported, never emitted. */
  readonly stopTokenIds: readonly number[];
  /** Number of alternatives to report with each token's log-probability; null reports none at all. */
  readonly logprobs: number | null;
}

/** Who a request is for when slots, places in the queue and cached prompts are shared out. */
export interface FairClaim {
  /** Tenants get equal service while they wait, and nothing of another's prompts. */
  readonly tenant: string;
  /** Shares out what the tenant gets among its own clients; null is one of them. */
  readonly fairnessId: string | null;
  /** Higher goes first, 0 is normal. Lower ones get a slot now and then. */
  readonly priority: number;
}

export interface GenerationRequest extends FairClaim {
  readonly promptTokens: readonly number[];
  /** Loaded and pinned by the caller until the generator ends. null is the base. */
  readonly adapter: ServingAdapter | null;
  readonly sampling: SamplingParams;
  /** Report log p(token j+1 | tokens 0..j) for the prompt (`echo` with `logprobs`). */
  readonly promptLogprobs: boolean;
  /** Cancels within one step. */
  readonly signal: AbortSignal;
}

export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
  /** Most likely first; [token, logprob]. */
  readonly top: readonly (readonly [number, number])[];
}

export type FinishReason = 'stop' | 'length' | 'cancelled';

export type GenerationEvent =
  /** Once, after the prompt has run. promptLogprobs[0] is null (nothing comes before the first token). */
  | {
      readonly type: 'prompt';
      readonly numCachedTokens: number;
      readonly promptLogprobs: readonly (TokenLogprob | null)[] | null;
    }
  | { readonly type: 'token'; readonly token: number; readonly logprob: TokenLogprob | null }
  /** Exactly one, last. An engine failure throws instead. `stopToken` is the id that ended it, where one did. */
  | { readonly type: 'finish'; readonly reason: FinishReason; readonly stopToken: number | null };

export interface EngineStats {
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly numSlots: number;
  /** Share of the slots' K/V that running sequences fill, 0..1. */
  readonly kvUsage: number;
  readonly prefixCacheQueriedTokens: number;
  readonly prefixCacheHitTokens: number;
  readonly numSteps: number;
  /** Tokens that were guessed, and how many of them were right. */
  readonly numDraftTokens: number;
  readonly numAcceptedTokens: number;
  /** Hashes of the adapters in the bank. */
  readonly activeAdapters: readonly string[];
  /** Hashes of adapters that queued requests wait with. */
  readonly waitingAdapters: readonly string[];
}

export interface Engine {
  /** Longest prompt plus output, in tokens. */
  readonly contextLength: number;
  readonly vocabSize: number;
  /**
   * Queues a request at once, before the first pull.
   * Throws GatewayError synchronously: queue_full (429, Retry-After), context_length_exceeded, invalid_value (an id out of range, an empty prompt).
   * A request that waits in a full queue may have to make room for a tenant that holds less of it: then the generator throws queue_full.
   */
  generate(request: GenerationRequest): AsyncGenerator<GenerationEvent, void, undefined>;
  stats(): EngineStats;
  /** Finishes the step under way, ends every sequence as cancelled, frees native memory. */
  dispose(): Promise<void>;
}
