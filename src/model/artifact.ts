// A converted base on disk: `manifest.json` (this type) beside `weights.bin` (4096-aligned blobs) and the tokenizer's files.
// Import writes it once; the serving graph refers to the blobs as ONNX external data; the trainer reads the same ones.

import type { Architecture } from './architecture.js';

/** A half-open byte range of weights.bin. */
export interface Blob {
  readonly offset: number;
  readonly length: number;
}

/**
 * A weight matrix W of shape [rows, cols] = [out, in].
 *  f32:   data [rows, cols].
 *  int4:  W[n,k] = scale[n,b] * (q[n,k] - 8) + minimum[n,m]; q packed two a byte, low nibble first: [rows, blocks, blockSize/2].
 *  int8:  W[n,k] = scale[n,b] * (q[n,k] - 128) + minimum[n,m]; q one a byte: [rows, blocks, blockSize].
 * with b = floor(k / blockSize), blocks = ceil(cols / blockSize) (the last block is padded with the zero code),
 * m = floor(k / minimaBlockSize), scales f32 [rows, blocks], minima f32 [rows, ceil(cols / minimaBlockSize)].
 */
export type MatrixEntry =
  | { readonly kind: 'f32'; readonly rows: number; readonly cols: number; readonly data: Blob }
  | {
      readonly kind: 'int4' | 'int8';
      readonly rows: number;
      readonly cols: number;
      readonly blockSize: number;
      readonly data: Blob;
      readonly scales: Blob;
      readonly minima: { readonly blockSize: number; readonly data: Blob } | null;
    };

export interface Manifest {
  readonly formatVersion: 1;
  /** sha256 over the source's weights: the identity that an adapter is checked against. */
  readonly baseHash: string;
  /** The name that /v1/models lists, for example `SmolLM2-135M-Instruct`. */
  readonly name: string;
  /** Where it came from, for people: a Hub id, a file name. */
  readonly source: string;
  readonly weights: 'q4' | 'q8' | 'f32';
  readonly architecture: Architecture;
  /** `layers.{l}.self_attn.q_proj` ..., `embed_tokens`, and `lm_head` (absent when tied). */
  readonly matrices: Readonly<Record<string, MatrixEntry>>;
  /** f32 vectors: `layers.{l}.input_layernorm`, `layers.{l}.post_attention_layernorm`, `layers.{l}.self_attn.q_norm`, `.k_norm`,
   *  `layers.{l}.self_attn.q_proj.bias` ..., `norm`. */
  readonly vectors: Readonly<Record<string, Blob>>;
  /** Token ids that end a turn or a text (EOS and end-of-turn). */
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | null;
  /** Whether encoding a plain prompt puts BOS in front. */
  readonly addBos: boolean;
  readonly createdAt: string;
}

export const MANIFEST_FILE = 'manifest.json';
export const WEIGHTS_FILE = 'weights.bin';
