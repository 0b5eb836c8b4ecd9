// What is known of a dataset before a model is loaded: lengths, cuts, masks, and the faults that make a training useless.

import type { TextTokenizer } from '../tokenizer/types.js';
import { maskText } from './mask-text.js';
import { type DropReason, countReasons } from './row-faults.js';
import { countSupervised, sidesOf } from './tokenize-example.js';
import { type TokenizedDataset, partsOf } from './tokenized-dataset.js';
import { IGNORED, type TokenizedExample } from './types.js';

/** Of nothing, all are 0. */
export interface Spread {
  readonly min: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}

export interface Portion {
  readonly count: number;
  /** In [0, 1]. */
  readonly share: number;
}

export interface Inspection {
  /** With those dropped. */
  readonly numRows: number;
  readonly dropped: Readonly<Partial<Record<DropReason, number>>>;
  /** One for each reason: place and detail. */
  readonly droppedExamples: readonly string[];
  readonly ignoredFields: readonly string[];
  /** Rows that are trained on. */
  readonly numUsed: number;
  /** Segments: windows, parts and sides of pairs. */
  readonly numSegments: number;
  /** Of the segments. */
  readonly tokens: Spread & { readonly total: number };
  readonly supervised: Spread & Portion;
  /** Of the used rows. */
  readonly truncated: Portion;
  /** Of the used rows: they became several examples (windows of a text, turns that the template renders otherwise later). */
  readonly split: Portion;
  /** Answers that lost their end, or all. */
  readonly numAnswersCut: number;
  /** Of all rows: nothing was learned from them. */
  readonly allMasked: Portion;
  /** Of the segments: a token that ends a turn or text is learned. Where it is rare, the model learns not to stop. */
  readonly endLearned: Portion;
  /** Of the segments: they begin with two BOS. */
  readonly doubleBos: Portion;
  /** The first segments, as maskText writes them. */
  readonly previews: readonly string[];
}

/** `numPreviews` segments are written out; a pair's sides are two. */
export function inspect(dataset: TokenizedDataset, tokenizer: TextTokenizer, numPreviews = 2): Inspection {
  const segments = partsOf(dataset).flatMap(sidesOf);
  const lengths = segments.map(({ tokens }) => tokens.length);
  const learned = segments.map(countSupervised);
  const numRows = dataset.rows.length + dataset.dropped.length;
  const dropped = countReasons(dataset.dropped);
  return {
    numRows,
    dropped,
    droppedExamples: Object.keys(dropped).flatMap((reason) => {
      const example = dataset.dropped.find((row) => row.reason === reason);
      return example === undefined ? [] : [`${example.place}: ${example.detail}`];
    }),
    ignoredFields: dataset.ignoredFields,
    numUsed: dataset.rows.length,
    numSegments: segments.length,
    tokens: { ...spreadOf(lengths), total: sum(lengths) },
    supervised: { ...spreadOf(learned), ...portion(sum(learned), sum(lengths)) },
    truncated: portion(dataset.rows.filter(({ isTruncated }) => isTruncated).length, dataset.rows.length),
    split: portion(dataset.rows.filter(({ parts }) => parts.length > 1).length, dataset.rows.length),
    numAnswersCut: sum(dataset.rows.map(({ numAnswersCut }) => numAnswersCut)),
    allMasked: portion(dropped.all_labels_masked ?? 0, numRows),
    endLearned: portion(segments.filter((segment) => learnsEnd(segment, tokenizer)).length, segments.length),
    doubleBos: portion(segments.filter((segment) => hasDoubleBos(segment, tokenizer)).length, segments.length),
    previews: segments.slice(0, numPreviews).map((segment) => maskText(segment, tokenizer)),
  };
}

function learnsEnd({ labels }: TokenizedExample, { eosTokenIds }: TextTokenizer): boolean {
  return labels.some((label) => label !== IGNORED && eosTokenIds.includes(label));
}

function hasDoubleBos({ tokens }: TokenizedExample, { bosTokenId }: TextTokenizer): boolean {
  return bosTokenId !== null && tokens[0] === bosTokenId && tokens[1] === bosTokenId;
}

/** Percentiles by nearest rank. */
function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { min: rank(0), p50: rank(0.5), p95: rank(0.95), max: rank(1) };
}

function portion(count: number, total: number): Portion {
  return { count, share: total === 0 ? 0 : count / total };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
