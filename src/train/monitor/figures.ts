// A run's current figures as plain numbers, for whoever exports metrics.

import type { TrainingEvent } from '../events.js';

export interface TrainingFigures {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly loss: number | null;
  readonly evalLoss: number | null;
  readonly bestEvalLoss: number | null;
  readonly learningRate: number | null;
  /** Before clipping. */
  readonly gradNorm: number | null;
  readonly tokensPerSecond: number | null;
  /** Of the steps that were seen. */
  readonly numSupervisedTokens: number;
  readonly rewardsMargins: number | null;
  readonly rewardsAccuracies: number | null;
  readonly elapsedS: number;
  readonly remainingS: number;
  readonly numCheckpoints: number;
  readonly numFaults: number;
}

export const NO_FIGURES: TrainingFigures = {
  step: 0,
  totalSteps: 0,
  epoch: 0,
  loss: null,
  evalLoss: null,
  bestEvalLoss: null,
  learningRate: null,
  gradNorm: null,
  tokensPerSecond: null,
  numSupervisedTokens: 0,
  rewardsMargins: null,
  rewardsAccuracies: null,
  elapsedS: 0,
  remainingS: 0,
  numCheckpoints: 0,
  numFaults: 0,
};

export function updateFigures(before: TrainingFigures, event: TrainingEvent): TrainingFigures {
  switch (event.type) {
    case 'step': {
      const { step, totalSteps, epoch, loss, learningRate, gradNorm, tokensPerSecond } = event;
      return {
        ...before,
        ...{ step, totalSteps, epoch, loss, learningRate, gradNorm, tokensPerSecond },
        numSupervisedTokens: before.numSupervisedTokens + event.numSupervised,
        rewardsMargins: event.preference?.rewardsMargins ?? null,
        rewardsAccuracies: event.preference?.rewardsAccuracies ?? null,
        elapsedS: event.elapsedS,
        remainingS: event.remainingS,
      };
    }
    case 'eval':
      return {
        ...before,
        evalLoss: event.loss,
        bestEvalLoss: event.isBest ? event.loss : before.bestEvalLoss,
      };
    case 'checkpoint':
      return { ...before, numCheckpoints: before.numCheckpoints + 1 };
    case 'diagnosis':
      return { ...before, numFaults: before.numFaults + 1 };
    case 'sample':
    case 'message':
      return before;
  }
}
