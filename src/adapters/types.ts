// What a loaded adapter is to the engine: plain typed arrays under a content hash, without files, names and tenants. And what people see of
// a registered one.

import type { Projection } from '../model/architecture.js';
import type { BottleneckPlace } from '../model/bottleneck-nodes.js';

/** One projection's low-rank update: y += (x · a) · b. The scale (alpha / r, rslora) is folded into b. */
export interface LoraDelta {
  readonly rank: number;
  /** A transposed, row-major [in, rank]. */
  readonly a: Float32Array;
  /** B transposed and scaled, row-major [rank, out]. */
  readonly b: Float32Array;
}

/** What a projection has beside its low-rank update: y = outScale * (W (inScale * x) + delta) + bias (DoRA, IA3, trained biases). */
export interface AffineDelta {
  /** [out]; null is all ones. */
  readonly outScale: Float32Array | null;
  /** [in]; null is all ones. */
  readonly inScale: Float32Array | null;
  /** Added to the output, on top of the base's own bias; [out]; null is none. */
  readonly bias: Float32Array | null;
}

export interface LayerDelta {
  readonly lora: Readonly<Partial<Record<Projection, LoraDelta>>>;
  readonly affine: Readonly<Partial<Record<Projection, AffineDelta>>>;
}

export interface LoraAdapter {
  readonly kind: 'lora';
  /** sha256 of the adapter's files: the identity for the prefix cache and the bank. */
  readonly hash: string;
  readonly sizeBytes: number;
  /** Largest rank over all projections; 0 where only affine parts exist. */
  readonly maxRank: number;
  /** Whether it has anything beside low-rank updates. */
  readonly hasAffine: boolean;
  /** One entry a block. */
  readonly layers: readonly LayerDelta[];
}

/** Keys and values of V virtual tokens, as they enter the cache (keys are not rotated again). */
export interface PrefixAdapter {
  readonly kind: 'prefix';
  readonly hash: string;
  readonly sizeBytes: number;
  readonly numVirtualTokens: number;
  /** One entry a block; each [kvHeads, V, headDim]. */
  readonly layers: readonly { readonly k: Float32Array; readonly v: Float32Array }[];
}

/** h += up(silu(down(h))), matrices transposed as they are multiplied with. */
export interface BottleneckDelta {
  /** Row-major [hidden, size]. */
  readonly down: Float32Array;
  /** [size]. */
  readonly downBias: Float32Array;
  /** Row-major [size, hidden]. */
  readonly up: Float32Array;
  /** [hidden]. */
  readonly upBias: Float32Array;
}

export interface BottleneckAdapter {
  readonly kind: 'bottleneck';
  readonly hash: string;
  readonly sizeBytes: number;
  /** Units of every bottleneck. */
  readonly size: number;
  /** One entry a block. */
  readonly layers: readonly Readonly<Record<BottleneckPlace, BottleneckDelta>>[];
}

export type ServingAdapter = LoraAdapter | PrefixAdapter | BottleneckAdapter;

/** Virtual token embeddings [V, hidden] of prompt tuning and P-tuning, before they are run into keys and values. */
export interface PromptEmbeddings {
  readonly kind: 'prompt';
  readonly hash: string;
  readonly numVirtualTokens: number;
  readonly embeddings: Float32Array;
}

/** What people see of a registered adapter. */
export interface AdapterInfo {
  /** As the tenant that asked may write it: its own plainly, another's as `owner/name`. */
  readonly name: string;
  /** The tenant whose it is. */
  readonly owner: string;
  /** 1, 2, ...: counts the registrations under this name. */
  readonly version: number;
  readonly hash: string;
  /** As in adapter_config.json: LORA, IA3, PREFIX_TUNING, PROMPT_TUNING, P_TUNING ...; BITFIT or BOTTLENECK for a manifest's. */
  readonly peftType: string;
  readonly servedAs: ServingAdapter['kind'];
  /** Largest rank; null for prefixes and bottlenecks. */
  readonly rank: number | null;
  readonly targetModules: readonly string[];
  readonly numVirtualTokens: number | null;
  /** Size of the stored files. */
  readonly sizeBytes: number;
  /** Name of the base that it was validated against. */
  readonly base: string;
  /** Unix seconds. */
  readonly createdAt: number;
}

/** A pinned, loaded adapter. release() exactly once; the adapter stays valid until then, whatever happens to its name. */
export interface AdapterLease {
  readonly adapter: ServingAdapter;
  readonly info: AdapterInfo;
  release(): void;
}
