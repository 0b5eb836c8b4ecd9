// What the micro-batches of a step, or of an evaluation, add up to.

import type { TrainingBatch } from '../data/types.js';
import type { PreferenceMetrics } from './events.js';
import type { BatchLoss, SampleLoss } from './objective.js';
import { addRewards, meanRewards, type PreferenceSums } from './preference-loss.js';
import { addEndTokens, countTokens, type EndTokens, measureEndTokens, NO_END_TOKENS } from './supervision.js';

export interface Measurement {
  readonly lossSum: number;
  readonly numUnits: number;
  readonly numSupervised: number;
  /** Without padding. */
  readonly numTokens: number;
  readonly preference: PreferenceSums | null;
  readonly spread: Spread;
  readonly endTokens: EndTokens;
}

/** Sums over samples of loss^2, loss * units and units^2: how much they differ. */
interface Spread {
  readonly numSamples: number;
  readonly lossSquares: number;
  readonly products: number;
  readonly unitSquares: number;
}

/** Fewer samples do not tell how much they differ. */
const MIN_SAMPLES = 4;

export const NOTHING_MEASURED: Measurement = {
  lossSum: 0,
  numUnits: 0,
  numSupervised: 0,
  numTokens: 0,
  preference: null,
  spread: { numSamples: 0, lossSquares: 0, products: 0, unitSquares: 0 },
  endTokens: NO_END_TOKENS,
};

export function addBatch(
  sum: Measurement,
  batch: TrainingBatch,
  loss: BatchLoss,
  endTokens: ReadonlySet<number>,
): Measurement {
  const ends = measureEndTokens(batch, loss.logprobs, endTokens);
  return {
    lossSum: sum.lossSum + loss.lossSum,
    numUnits: sum.numUnits + loss.numUnits,
    numSupervised: sum.numSupervised + loss.logprobs.length,
    numTokens: sum.numTokens + countTokens(batch),
    preference: addPreference(sum.preference, loss.preference),
    spread: loss.samples.reduce(addSample, sum.spread),
    endTokens: addEndTokens(sum.endTokens, ends),
  };
}

/** A batch in which no label counts. */
export function addIdleBatch(sum: Measurement, batch: TrainingBatch): Measurement {
  return { ...sum, numTokens: sum.numTokens + countTokens(batch) };
}

/** Over the units; 0 where there are none. */
export function meanLoss({ lossSum, numUnits }: Measurement): number {
  return numUnits === 0 ? 0 : lossSum / numUnits;
}

/**
 * Standard error of the mean loss as an estimate of all data's, the samples being drawn at random: what steps differ by without the model
 * changing. That of a ratio of sums; null for too few samples.
 */
export function lossError(measured: Measurement): number | null {
  const { numSamples, lossSquares, products, unitSquares } = measured.spread;
  if (numSamples < MIN_SAMPLES || measured.numUnits === 0) return null;
  const mean = meanLoss(measured);
  const squares = Math.max(0, lossSquares - 2 * mean * products + mean * mean * unitSquares);
  return Math.sqrt((squares * numSamples) / (numSamples - 1)) / measured.numUnits;
}

export function meanPreference({ preference, numUnits }: Measurement): PreferenceMetrics | null {
  return preference === null ? null : meanRewards(preference, numUnits);
}

function addSample(sum: Spread, { lossSum, numUnits }: SampleLoss): Spread {
  return {
    numSamples: sum.numSamples + 1,
    lossSquares: sum.lossSquares + lossSum * lossSum,
    products: sum.products + lossSum * numUnits,
    unitSquares: sum.unitSquares + numUnits * numUnits,
  };
}

function addPreference(a: PreferenceSums | null, b: PreferenceSums | null): PreferenceSums | null {
  return a === null || b === null ? (a ?? b) : addRewards(a, b);
}
