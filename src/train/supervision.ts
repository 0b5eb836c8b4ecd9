// Which tokens of a batch are supervised, in the order of a model's log-probabilities: by row, then position.

import { IGNORED, type TrainingBatch } from '../data/types.js';

export function countSupervised(batch: TrainingBatch): number {
  let count = 0;
  for (const label of batch.labels) if (label !== IGNORED) count++;
  return count;
}

/** Tokens that are not padding. */
export function countTokens(batch: TrainingBatch): number {
  let count = 0;
  for (const segment of batch.segments) if (segment !== 0) count++;
  return count;
}

export interface SupervisedSegments {
  /** Of the whole batch, those without a supervised token too. */
  readonly numSegments: number;
  /** For each supervised token the number of its segment in the batch, from 0: by row, then by its number in the row. */
  readonly segmentOf: Int32Array;
}

export function supervisedSegments(batch: TrainingBatch): SupervisedSegments {
  const segmentOf: number[] = [];
  let numBefore = 0;
  for (let row = 0; row < batch.numRows; row++) {
    let numInRow = 0;
    for (let i = row * batch.numTokens; i < (row + 1) * batch.numTokens; i++) {
      const segment = batch.segments[i]!;
      numInRow = Math.max(numInRow, segment);
      if (batch.labels[i] !== IGNORED) segmentOf.push(numBefore + segment - 1);
    }
    numBefore += numInRow;
  }
  return { numSegments: numBefore, segmentOf: Int32Array.from(segmentOf) };
}

/** How well the ends of answers are learned: sums over the supervised tokens that end one. */
export interface EndTokens {
  readonly numSegments: number;
  readonly numTokens: number;
  /** Labels that are an end token. */
  readonly numEnds: number;
  /** Nats. */
  readonly lossSum: number;
}

export const NO_END_TOKENS: EndTokens = { numSegments: 0, numTokens: 0, numEnds: 0, lossSum: 0 };

export function addEndTokens(a: EndTokens, b: EndTokens): EndTokens {
  return {
    numSegments: a.numSegments + b.numSegments,
    numTokens: a.numTokens + b.numTokens,
    numEnds: a.numEnds + b.numEnds,
    lossSum: a.lossSum + b.lossSum,
  };
}

export function measureEndTokens(
  batch: TrainingBatch,
  logprobs: Float32Array,
  endTokens: ReadonlySet<number>,
): EndTokens {
  const { numSegments } = supervisedSegments(batch);
  let numEnds = 0;
  let lossSum = 0;
  let at = 0;
  for (const label of batch.labels) {
    if (label === IGNORED) continue;
    if (endTokens.has(label)) {
      numEnds++;
      lossSum -= logprobs[at]!;
    }
    at++;
  }
  return { numSegments, numTokens: logprobs.length, numEnds, lossSum };
}
