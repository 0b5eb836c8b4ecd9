// Made-up token sequences, and batches of them, for the small models of token-models.ts.
import { IGNORED, type TrainingBatch } from '../../src/data/types.js';
import { randomBits } from '../../src/train/random-numbers.js';
import type { BatchSource } from '../../src/train/batch-source.js';

export const END = 0;
const START = 1;

export interface Sequence {
  readonly tokens: readonly number[];
  /** As long as the tokens; IGNORED where a label does not count. */
  readonly labels: readonly number[];
}

export interface ChainOptions {
  readonly vocabSize: number;
  readonly numSequences: number;
  readonly length: number;
  /** Chance that a token is followed by its own successor, and not by any token. */
  readonly order?: number;
  readonly seed?: number;
}

/** START, then tokens each of which has one likely successor (the next but two), then END. All but START is supervised. */
export function chains({ vocabSize, numSequences, length, order = 0.9, seed = 1 }: ChainOptions): Sequence[] {
  return Array.from({ length: numSequences }, (_, index) => {
    const random = randomBits(seed, index);
    const unit = () => random() / 2 ** 32;
    const anyToken = () => 2 + Math.floor(unit() * (vocabSize - 2));
    const tokens = [START, anyToken()];
    while (tokens.length < length - 1) {
      const last = tokens.at(-1)! - 2;
      tokens.push(unit() < order ? 2 + ((last * 3 + 1) % (vocabSize - 2)) : anyToken());
    }
    tokens.push(END);
    return { tokens, labels: [IGNORED, ...tokens.slice(1)] };
  });
}

export interface SourceOptions {
  /** Sequences of a micro-batch, one a row. */
  readonly batchSize: number;
  /** null keeps the order in every epoch. */
  readonly seed?: number | null;
}

export function sequenceSource(
  sequences: readonly Sequence[],
  { batchSize, seed = 7 }: SourceOptions,
): BatchSource {
  return {
    numMicroBatches: Math.ceil(sequences.length / batchSize),
    fingerprint: JSON.stringify([sequences.length, sequences[0], seed]),
    microBatch(epoch, index) {
      const order = seed === null ? sequences : shuffled(sequences, randomBits(seed, epoch));
      return batchOf(order.slice(index * batchSize, (index + 1) * batchSize));
    },
  };
}

/** One sequence a row, padded on the right. */
export function batchOf(sequences: readonly Sequence[]): TrainingBatch {
  const numRows = sequences.length;
  const numTokens = Math.max(...sequences.map(({ tokens }) => tokens.length));
  const size = numRows * numTokens;
  const batch = {
    numRows,
    numTokens,
    tokens: new Int32Array(size),
    labels: new Int32Array(size).fill(IGNORED),
    segments: new Int32Array(size),
    positions: new Int32Array(size),
  };
  for (const [row, { tokens, labels }] of sequences.entries()) {
    const start = row * numTokens;
    batch.tokens.set(tokens, start);
    batch.labels.set(labels, start);
    batch.segments.fill(1, start, start + tokens.length);
    for (let at = 0; at < tokens.length; at++) batch.positions[start + at] = at;
  }
  return batch;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = random() % (last + 1);
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}
