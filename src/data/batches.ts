// Tokenized examples to micro-batches: shuffled for each epoch, of similar length, or packed several to a row.
// What a micro-batch holds follows from seed, epoch and index alone, so that a run goes on where it was left.

import { createHash } from 'node:crypto';
import { assert } from '../errors.js';
import { packBestFit } from './packing.js';
import { seededRandom, shuffled } from './random.js';
import { sidesOf } from './tokenize-example.js';
import { IGNORED, type TokenizedExample, type TokenizedPair, type TrainingBatch } from './types.js';

export interface BatchOptions {
  /** Examples of a micro-batch, a pair being one that fills two rows; with packing, rows. */
  readonly batchSize: number;
  readonly packing: boolean;
  /** No example is longer; with packing, a row's length. */
  readonly cutoffLength: number;
  readonly seed: number;
  /** Rows are as long as the batch's longest, rounded up to a multiple of this (but not over cutoffLength), so that shapes recur. */
  readonly padTo: number;
}

export interface Batches {
  /** Of an epoch; the same in all. */
  readonly numMicroBatches: number;
  /** Of the examples and options: differs where any batch differs. */
  readonly fingerprint: string;
  /** Epochs and indices from 0. */
  microBatch(epoch: number, index: number): TrainingBatch;
}

/** Batches whose examples are sorted by length together: more waste less padding, fewer mix lengths better. */
const BATCHES_OF_A_WINDOW = 32;

type Part = TokenizedExample | TokenizedPair;
/** Segments of a row. */
type Row = readonly TokenizedExample[];

/** Chosen and rejected are neighbours, chosen first, in one row or in two that follow each other, and always in one micro-batch. */
export function createBatches(parts: readonly Part[], options: BatchOptions): Batches {
  const { batchSize, cutoffLength, packing } = options;
  assert(parts.length > 0, 'batches of nothing');
  assert(Number.isInteger(batchSize) && batchSize > 0, `a batch size of ${batchSize}`);
  for (const part of parts)
    for (const { tokens } of sidesOf(part))
      assert(tokens.length <= cutoffLength, `${tokens.length} tokens, more than ${cutoffLength}`);
  const plan = (epoch: number): Part[][][] => {
    const random = seededRandom(options.seed, epoch);
    const order = shuffled(parts, random);
    return packing
      ? packedPlan(order, cutoffLength, batchSize, random)
      : groupedPlan(order, batchSize, random).map((batch) => batch.map((part) => [part]));
  };
  let planned = { epoch: 0, batches: plan(0) };
  return {
    numMicroBatches: planned.batches.length,
    fingerprint: fingerprintOf(parts, options),
    microBatch(epoch, index) {
      if (planned.epoch !== epoch) planned = { epoch, batches: plan(epoch) };
      const batch = planned.batches[index];
      assert(batch !== undefined, `micro-batch ${index} of ${planned.batches.length}`);
      return laidOut(
        batch.flatMap((group) => rowsOf(group, options)),
        options,
      );
    },
  };
}

/** sha256, in hex. */
function fingerprintOf(parts: readonly Part[], options: BatchOptions): string {
  const { batchSize, packing, cutoffLength, seed, padTo } = options;
  const hash = createHash('sha256').update(JSON.stringify([batchSize, packing, cutoffLength, seed, padTo]));
  for (const part of parts)
    for (const [side, { tokens, labels }] of sidesOf(part).entries()) {
      hash.update(`${side} ${tokens.length} `);
      hash.update(tokens).update(labels);
    }
  return hash.digest('hex');
}

/** Batches of examples of similar length, in random order. */
function groupedPlan(order: readonly Part[], batchSize: number, random: () => number): Part[][] {
  const windows = chunks(order, batchSize * BATCHES_OF_A_WINDOW);
  const sorted = windows.flatMap((window) => window.toSorted((a, b) => longestOf(b) - longestOf(a)));
  return shuffled(chunks(sorted, batchSize), random);
}

/** Batches of groups of examples that share a row, in random order. */
function packedPlan(
  order: readonly Part[],
  cutoffLength: number,
  batchSize: number,
  random: () => number,
): Part[][][] {
  const groups = packBestFit(order.map(totalOf), cutoffLength);
  const shuffledGroups = shuffled(groups, random).map((group) => group.map((index) => order[index]!));
  return chunks(shuffledGroups, batchSize);
}

/** A pair's sides have a row each, unless packing finds room for both in one. */
function rowsOf(group: readonly Part[], { packing, cutoffLength }: BatchOptions): Row[] {
  const sides = group.flatMap(sidesOf);
  const total = sides.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return packing && total <= cutoffLength ? [sides] : sides.map((side) => [side]);
}

function laidOut(rows: readonly Row[], { cutoffLength, padTo }: BatchOptions): TrainingBatch {
  const lengths = rows.map((row) => row.reduce((sum, { tokens }) => sum + tokens.length, 0));
  const numTokens = Math.min(Math.ceil(Math.max(...lengths) / padTo) * padTo, cutoffLength);
  const size = rows.length * numTokens;
  const batch = {
    numRows: rows.length,
    numTokens,
    tokens: new Int32Array(size),
    labels: new Int32Array(size).fill(IGNORED),
    segments: new Int32Array(size),
    positions: new Int32Array(size),
  };
  for (const [rowIndex, row] of rows.entries()) {
    let start = rowIndex * numTokens;
    for (const [segment, { tokens, labels }] of row.entries()) {
      const end = start + tokens.length;
      batch.tokens.set(tokens, start);
      batch.labels.set(labels, start);
      batch.labels[start] = IGNORED;
      batch.segments.fill(segment + 1, start, end);
      for (let at = start; at < end; at++) batch.positions[at] = at - start;
      start = end;
    }
  }
  return batch;
}

function longestOf(part: Part): number {
  return Math.max(...sidesOf(part).map(({ tokens }) => tokens.length));
}

function totalOf(part: Part): number {
  return sidesOf(part).reduce((sum, { tokens }) => sum + tokens.length, 0);
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
