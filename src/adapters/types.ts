// What a loaded adapter is to the engine: plain typed arrays under a content hash. No files, no names, no tenants.

import type { Projection } from '../model/architecture.js';

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

export type ServingAdapter = LoraAdapter | PrefixAdapter;

/** Virtual token embeddings [V, hidden] of prompt tuning and P-tuning, before they are run into keys and values. */
export interface PromptEmbeddings {
  readonly kind: 'prompt';
  readonly hash: string;
  readonly numVirtualTokens: number;
  readonly embeddings: Float32Array;
}
