// How long a run is: steps and tokens, from the micro-batches that its examples make.
import { createBatches } from '../../data/batches.js';
import { sidesOf } from '../../data/tokenize-example.js';
import type { TokenizedExample, TokenizedPair } from '../../data/types.js';
import type { TrainingOptions } from '../options.js';
import { planRun } from '../run-plan.js';

export interface RunSize {
  readonly numExamples: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** Of the whole run, without padding. */
  readonly numTokens: number;
  /** Of the whole run, with padding: what is computed. */
  readonly numPaddedTokens: number;
  /** Of any micro-batch. */
  readonly mostRows: number;
  /** Longest row, in tokens. */
  readonly longestRow: number;
}

export type SizeOptions = Pick<
  TrainingOptions,
  'cutoffLength' | 'packing' | 'batchSize' | 'accumulation' | 'epochs' | 'maxSteps' | 'seed'
>;

/** Rows are padded to a multiple, so that few shapes of graphs are made. */
export const PAD_TO = 32;

/** `parts`: one or more, none longer than the cutoff. Each epoch counts as the first. */
export function sizeOfRun(
  parts: readonly (TokenizedExample | TokenizedPair)[],
  options: SizeOptions,
): RunSize {
  const batches = createBatches(parts, { ...options, padTo: PAD_TO });
  const { stepsPerEpoch, totalSteps } = planRun(batches.numMicroBatches, options);
  let [padded, mostRows, longestRow] = [0, 0, 0];
  for (let index = 0; index < batches.numMicroBatches; index++) {
    const { numRows, numTokens } = batches.microBatch(0, index);
    padded += numRows * numTokens;
    mostRows = Math.max(mostRows, numRows);
    longestRow = Math.max(longestRow, numTokens);
  }
  const tokens = parts.flatMap(sidesOf).reduce((sum, side) => sum + side.tokens.length, 0);
  const epochs = totalSteps / stepsPerEpoch;
  return {
    numExamples: parts.length,
    stepsPerEpoch,
    totalSteps,
    numTokens: Math.round(tokens * epochs),
    numPaddedTokens: Math.round(padded * epochs),
    mostRows,
    longestRow,
  };
}
