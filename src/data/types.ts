// What training data is on its way to the trainer: examples as text, as tokens with labels, and batches of fixed shape.

import type { ChatMessage } from '../tokenizer/types.js';

/** A label that does not count. */
export const IGNORED = -100;

/** A message of a training conversation; a weight of 0 leaves an assistant's turn out of the loss. */
export type TrainingMessage = ChatMessage & { readonly weight?: 0 | 1 };

export interface ChatExample {
  readonly kind: 'chat';
  readonly messages: readonly TrainingMessage[];
}

export interface PreferenceExample {
  readonly kind: 'preference';
  /** Up to the answer. */
  readonly prompt: readonly TrainingMessage[];
  readonly chosen: readonly TrainingMessage[];
  readonly rejected: readonly TrainingMessage[];
}

export interface TextExample {
  readonly kind: 'text';
  readonly text: string;
}

export type Example = ChatExample | PreferenceExample | TextExample;

/** `labels[i]` is `tokens[i]` where predicting it counts, IGNORED elsewhere; not shifted. Equal lengths. */
export interface TokenizedExample {
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
}

export interface TokenizedPair {
  readonly chosen: TokenizedExample;
  readonly rejected: TokenizedExample;
}

/** B rows of S tokens, row-major, padded on the right. Several examples may share a row: each is a segment. */
export interface TrainingBatch {
  readonly numRows: number;
  readonly numTokens: number;
  /** [B, S]. */
  readonly tokens: Int32Array;
  /** [B, S]; not shifted: position t predicts the label at t + 1, within the segment. The first of a segment is IGNORED. */
  readonly labels: Int32Array;
  /** [B, S]; 1, 2, ... in each row, 0 is padding. Attention stays within a segment. */
  readonly segments: Int32Array;
  /** [B, S]; from 0 in each segment. */
  readonly positions: Int32Array;
}
