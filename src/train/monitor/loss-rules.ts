// Faults that the course of the training loss shows. A rule looks at the history and says what it saw, with the numbers, or null.
// Rules compare means of windows, and ask that a difference be greater than the noise between neighbouring steps explains.

import { mean, noise, type RunHistory, type RunPart } from './run-history.js';

export type Rule = (history: RunHistory, stage: 'sft' | 'pt' | 'dpo') => string | null;

/** Axolotl's advice for its loss watchdog: twice the loss at the beginning. */
const DIVERGED_FROM_START = 2;
const HIGH_FROM_START = 1.1;
/** Mean size of the difference of two independent normal values, for a deviation of 1. */
const NOISE_OF_DEVIATION = 2 / Math.sqrt(Math.PI);
/** Nats a token above which a supervised run that no longer improves has not fitted its data. */
const HIGH_LOSS = 2;

/** The loss rose far above where it began, or far above the best it had reached. */
export const divergence: Rule = (history) => {
  const now = lastMean(history);
  if (now === null || history.bestMean === null) return null;
  const start = startLoss(history);
  if (now > DIVERGED_FROM_START * start && now > start + 1)
    return `the loss began at ${figure(start)} and is ${figure(now)} in the last ${history.windowSize} steps`;
  const best = history.bestMean;
  if (now > 1.5 * best + 0.5 && now - best > 4 * deviation(history))
    return `the loss had come down to ${figure(best)} and is ${figure(now)} in the last ${history.windowSize} steps`;
  return null;
};

/** The loss stays above where it began. */
export const learningRateHigh: Rule = (history) => {
  const now = lastMean(history);
  if (now === null) return null;
  const start = startLoss(history);
  if (now < HIGH_FROM_START * start + 0.05 || now - start < 3 * deviation(history)) return null;
  return `the loss began at ${figure(start)} and is higher, ${figure(now)}, in the last ${history.windowSize} steps`;
};

/** Hardly any progress over the run, and what there was has not slowed down: the same steps again would bring as much again. */
export const learningRateLow: Rule = (history) => {
  const progress = progressOf(history);
  if (progress === null || progress.share < -0.02 || hasOtherCause(history)) return null;
  if (progress.share > 0.02 && (progress.share > 0.1 || progress.lateShare < 0.3)) return null;
  return (
    `over ${history.step} steps the loss came from ${figure(progress.start)} to ${figure(progress.end)}` +
    `, ${percent(progress.lateShare)} of that in the second half, and the gradient norm is still ${figure(history.lastGradNorm)}`
  );
};

/** Progress came to an end while the loss is still high. */
export const underfitting: Rule = (history, stage) => {
  const progress = progressOf(history);
  if (progress === null || hasOtherCause(history)) return null;
  if (progress.share <= 0.02 || progress.share > 0.3 || progress.lateShare > 0.2) return null;
  const isHigh =
    stage === 'dpo'
      ? (history.rewardsAccuracies ?? 1) < 0.6 && progress.share < 0.1
      : progress.end > HIGH_LOSS;
  if (!isHigh) return null;
  return (
    `the loss came from ${figure(progress.start)} to ${figure(progress.end)} and stays there: ` +
    `${percent(Math.max(0, progress.lateShare))} of the progress was in the second half`
  );
};

/** The loss swings from step to step by far more than the examples of a step differ. */
export const oscillatingSteps: Rule = (history) => {
  const now = lastMean(history);
  if (now === null || history.lossErrors.length < history.windowSize) return null;
  const swing = noise(history.last);
  const chance = NOISE_OF_DEVIATION * Math.sqrt(mean(history.lossErrors.map((error) => error * error)));
  if (swing < 0.05 || swing < 0.1 * now || swing < 3 * chance) return null;
  return (
    `the loss swings by ${figure(swing)} from step to step, around ${figure(now)}; ` +
    `the examples of a step differ by so much that ${figure(chance)} would be chance`
  );
};

/** Gradients of next to nothing though nothing has been learned. (A run that has learned ends with small gradients too.) */
export const vanishingGradients: Rule = (history) => {
  if (history.numFlat < Math.max(5, history.windowSize)) return null;
  const start = startLoss(history);
  const now = mean(history.last);
  if (now < 0.1 || now < 0.9 * start) return null;
  return `the gradient norm has been below ${history.lastGradNorm < 1e-7 ? '1e-7' : 'a ten-thousandth of the first ones'} for ${history.numFlat} steps, at a loss of ${figure(now)}`;
};

/** The loss's course then says nothing about a rate that was too low, or a model that was too small. */
function hasOtherCause({ reported }: RunHistory): boolean {
  return ['divergence', 'learning_rate_high', 'vanishing_gradients'].some((fault) =>
    reported.includes(fault),
  );
}

/** null until there is a window after the first one. */
function lastMean({ last, windowSize, step }: RunHistory): number | null {
  return windowSize === 0 || last.length < windowSize || step < 2 * windowSize ? null : mean(last);
}

/** Where the loss began: not spoilt by one lucky batch, nor by steps that are already too large. */
function startLoss({ first, bestMean }: RunHistory): number {
  return Math.max(first[0]!, Math.min(mean(first.slice(0, 3)), bestMean ?? Infinity));
}

/** How far two windows' means lie apart by chance: one deviation. */
function deviation({ first, windowSize }: RunHistory): number {
  return (noise(first) / NOISE_OF_DEVIATION) * Math.sqrt(2 / windowSize);
}

interface Progress {
  readonly start: number;
  readonly end: number;
  /** Of the loss at the start. */
  readonly share: number;
  /** Share of the progress that was made in the second half of the run, measured in learning rate spent. */
  readonly lateShare: number;
}

/** At the run's end; null before, and for runs too short to tell. */
function progressOf({ step, totalSteps, parts }: RunHistory): Progress | null {
  const isOver = step === totalSteps;
  if (!isOver || parts.length < 10 || parts.reduce((sum, { numSteps }) => sum + numSteps, 0) < 20)
    return null;
  const spent = runningSums(parts.map(({ learningRateSum }) => learningRateSum));
  const half = spent.findIndex((sum) => sum >= spent.at(-1)! / 2);
  const start = lossOver(parts.slice(0, 2));
  const middle = lossOver(parts.slice(Math.max(0, half - 1), half + 2));
  const end = lossOver(parts.slice(-2));
  const gain = start - end;
  return { start, end, share: gain / start, lateShare: gain > 0 ? (middle - end) / gain : 0 };
}

function lossOver(parts: readonly RunPart[]): number {
  const numSteps = parts.reduce((sum, part) => sum + part.numSteps, 0);
  return parts.reduce((sum, part) => sum + part.lossSum, 0) / numSteps;
}

function runningSums(values: readonly number[]): readonly number[] {
  let sum = 0;
  return values.map((value) => (sum += value));
}

export function figure(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
