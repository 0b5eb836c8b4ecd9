// A batch as the blocks see it: groups of rows that are computed together, virtual tokens put in front of every segment, positions as
// rotations, and who sees whom as a mask. Padding behind the longest row of a group is left out.

import { IGNORED, type TrainingBatch } from '../data/types.js';
import type { RopeTables } from '../model/rope.js';

export interface RowGroup {
  /** B and S of this group. */
  readonly numRows: number;
  readonly numTokens: number;
  /** [B*S]: a token id; a virtual token v is -1 - v; padding is 0. */
  readonly tokens: Int32Array;
  /** [B*S, D/2], of every token's position. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  /** [B, 1, S, T]: 0 where a token sees a key. The first T - S keys are a prefix. */
  readonly mask: Float32Array;
  /** Rows of [B*S] that predict a label that counts, and these labels, in the order of the batch. */
  readonly predicting: Int32Array;
  readonly labels: Int32Array;
}

export interface LayoutOptions {
  /** Virtual tokens before every segment. */
  readonly numVirtualTokens: number;
  /** Keys and values before every segment. */
  readonly numPrefixTokens: number;
  readonly slidingWindow: number | null;
  /** A group has at most so many tokens, but always one row. */
  readonly maxTokens: number;
  readonly headDim: number;
  /** cos and sin [at least length, D/2] of positions [0, length). */
  readonly rope: (length: number) => RopeTables;
}

const UNSEEN = -1e30;
/** Lengths are rounded up to a multiple: every other shape is another graph. */
const LENGTH_STEP = 16;

/** A row's tokens with the virtual ones; segment 0 is padding. */
interface Row {
  readonly tokens: number[];
  readonly segments: number[];
  readonly positions: number[];
  /** Places whose token's label counts, and the labels. */
  readonly labelled: number[];
  readonly labels: number[];
}

export function layoutBatch(batch: TrainingBatch, options: LayoutOptions): readonly RowGroup[] {
  const rows = Array.from({ length: batch.numRows }, (_, row) => layoutRow(batch, row, options));
  const groups: RowGroup[] = [];
  for (let start = 0; start < rows.length;) {
    let numTokens = roundedLength(rows[start]!);
    let end = start + 1;
    for (; end < rows.length; end++) {
      const longest = Math.max(numTokens, roundedLength(rows[end]!));
      if (longest * (end + 1 - start) > options.maxTokens) break;
      numTokens = longest;
    }
    groups.push(layoutGroup(rows.slice(start, end), numTokens, options));
    start = end;
  }
  return groups;
}

function layoutRow(batch: TrainingBatch, row: number, options: LayoutOptions): Row {
  const { numTokens, tokens, labels, segments, positions } = batch;
  const { numVirtualTokens, numPrefixTokens } = options;
  const out: Row = { tokens: [], segments: [], positions: [], labelled: [], labels: [] };
  const put = (token: number, segment: number, position: number): void => {
    out.tokens.push(token);
    out.segments.push(segment);
    out.positions.push(position);
  };
  let previous = 0;
  for (let at = row * numTokens; at < (row + 1) * numTokens; at++) {
    const segment = segments[at]!;
    if (segment !== previous && segment !== 0)
      for (let v = 0; v < numVirtualTokens; v++) put(-1 - v, segment, v);
    previous = segment;
    if (labels[at] !== IGNORED) {
      out.labelled.push(out.tokens.length);
      out.labels.push(labels[at]!);
    }
    put(segment === 0 ? 0 : tokens[at]!, segment, positions[at]! + numVirtualTokens + numPrefixTokens);
  }
  return out;
}

function roundedLength({ segments }: Row): number {
  const used = segments.findLastIndex((segment) => segment !== 0) + 1;
  return Math.max(1, Math.ceil(used / LENGTH_STEP)) * LENGTH_STEP;
}

function layoutGroup(rows: readonly Row[], numTokens: number, options: LayoutOptions): RowGroup {
  const padded = rows.map((row) => padRow(row, numTokens));
  const tokens = Int32Array.from(padded.flatMap((row) => row.tokens));
  const positions = padded.flatMap((row) => row.positions);
  const predicting = padded.flatMap((row, index) => row.labelled.map((at) => index * numTokens + at - 1));
  return {
    numRows: rows.length,
    numTokens,
    tokens,
    ...rotations(positions, options),
    mask: groupMask(padded, numTokens, options),
    predicting: Int32Array.from(predicting),
    labels: Int32Array.from(padded.flatMap((row) => row.labels)),
  };
}

function padRow(row: Row, numTokens: number): Row {
  const fit = (values: readonly number[]): number[] =>
    Array.from({ length: numTokens }, (_, i) => values[i] ?? 0);
  return { ...row, tokens: fit(row.tokens), segments: fit(row.segments), positions: fit(row.positions) };
}

function rotations(
  positions: readonly number[],
  { rope, headDim }: LayoutOptions,
): { readonly cos: Float32Array; readonly sin: Float32Array } {
  const half = headDim / 2;
  const tables = rope(positions.reduce((most, position) => Math.max(most, position + 1), 1));
  const gather = (table: Float32Array): Float32Array => {
    const out = new Float32Array(positions.length * half);
    positions.forEach((position, i) =>
      out.set(table.subarray(position * half, (position + 1) * half), i * half),
    );
    return out;
  };
  return { cos: gather(tables.cos), sin: gather(tables.sin) };
}

/** A token sees those of its own segment up to itself, and the prefix, as far back as the window reaches. */
function groupMask(
  rows: readonly Row[],
  numTokens: number,
  { numPrefixTokens, slidingWindow }: LayoutOptions,
): Float32Array {
  const numKeys = numPrefixTokens + numTokens;
  const window = slidingWindow ?? Infinity;
  const mask = new Float32Array(rows.length * numTokens * numKeys).fill(UNSEEN);
  rows.forEach(({ segments, positions }, row) => {
    for (let query = 0; query < numTokens; query++) {
      const at = (row * numTokens + query) * numKeys;
      const firstPosition = positions[query]! - window + 1;
      for (let key = Math.max(0, firstPosition); key < numPrefixTokens; key++) mask[at + key] = 0;
      for (let key = query; key >= 0 && segments[key] === segments[query]; key--) {
        if (query - key >= window) break;
        mask[at + numPrefixTokens + key] = 0;
      }
    }
  });
  return mask;
}
