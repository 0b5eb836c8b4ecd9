// Losses over pairs of a preferred and a rejected answer: DPO (Rafailov et al., arXiv 2305.18290) and its variants, as TRL has them.
// Pure arithmetic over log-probabilities; where those come from is preference-objective.ts.

import { GatewayError } from '../errors.js';
import type { PreferenceMetrics } from './events.js';
import type { TrainingOptions } from './options.js';

export type PreferenceOptions = TrainingOptions['dpo'];

/** Of one answer: log-probabilities summed over its supervised tokens. */
export interface AnswerLogprobs {
  readonly policy: number;
  readonly reference: number;
  readonly numTokens: number;
}

export interface PairLoss {
  readonly loss: number;
  /** dLoss / dlogprob of each token of the preferred answer, and of the rejected one. */
  readonly chosenWeight: number;
  readonly rejectedWeight: number;
  /** beta * (policy - reference), over sums whatever the loss. */
  readonly rewardChosen: number;
  readonly rewardRejected: number;
}

/** Throws GatewayError invalid_value for label smoothing with a loss that has none. */
export function checkPreferenceOptions({ loss, labelSmoothing }: PreferenceOptions): void {
  if (labelSmoothing !== 0 && loss !== 'sigmoid')
    throw new GatewayError(
      'invalid_value',
      `Expected labelSmoothing to be 0 with the loss ${loss}, got ${labelSmoothing}; only the sigmoid loss smooths labels`,
      { param: 'dpo.labelSmoothing' },
    );
}

/**
 * With h the difference of the two answers' policy-to-reference log-ratios:
 *   sigmoid  -(1 - e) log s(beta h) - e log s(-beta h), e the label smoothing (conservative DPO)
 *   hinge    max(0, 1 - beta h) (SLiC, arXiv 2305.10425)
 *   ipo      (h - 1 / (2 beta))^2, log-ratios averaged over each answer's tokens (arXiv 2310.12036)
 */
export function pairLoss(
  chosen: AnswerLogprobs,
  rejected: AnswerLogprobs,
  { beta, loss: kind, labelSmoothing }: PreferenceOptions,
): PairLoss {
  const chosenScale = kind === 'ipo' ? 1 / Math.max(1, chosen.numTokens) : 1;
  const rejectedScale = kind === 'ipo' ? 1 / Math.max(1, rejected.numTokens) : 1;
  const chosenRatio = chosen.policy - chosen.reference;
  const rejectedRatio = rejected.policy - rejected.reference;
  const difference = chosenRatio * chosenScale - rejectedRatio * rejectedScale;
  const { loss, slope } = lossOf(kind, difference, beta, labelSmoothing);
  return {
    loss,
    chosenWeight: slope * chosenScale,
    rejectedWeight: -slope * rejectedScale,
    rewardChosen: beta * chosenRatio,
    rewardRejected: beta * rejectedRatio,
  };
}

/** The loss at h, and its derivative. */
function lossOf(
  kind: PreferenceOptions['loss'],
  h: number,
  beta: number,
  smoothing: number,
): { readonly loss: number; readonly slope: number } {
  switch (kind) {
    case 'sigmoid':
      return {
        loss: (1 - smoothing) * softplus(-beta * h) + smoothing * softplus(beta * h),
        slope: beta * (smoothing * sigmoid(beta * h) - (1 - smoothing) * sigmoid(-beta * h)),
      };
    case 'hinge':
      return beta * h < 1 ? { loss: 1 - beta * h, slope: -beta } : { loss: 0, slope: 0 };
    case 'ipo': {
      const gap = h - 1 / (2 * beta);
      return { loss: gap * gap, slope: 2 * gap };
    }
  }
}

/** Sums over pairs, from which means are made once all are there. */
export interface PreferenceSums {
  readonly chosen: number;
  readonly rejected: number;
  /** Pairs whose preferred answer has the greater reward. */
  readonly numRight: number;
}

export function sumRewards(pairs: readonly PairLoss[]): PreferenceSums {
  let [chosen, rejected, numRight] = [0, 0, 0];
  for (const { rewardChosen, rewardRejected } of pairs) {
    chosen += rewardChosen;
    rejected += rewardRejected;
    if (rewardChosen > rewardRejected) numRight++;
  }
  return { chosen, rejected, numRight };
}

export function addRewards(a: PreferenceSums, b: PreferenceSums): PreferenceSums {
  return {
    chosen: a.chosen + b.chosen,
    rejected: a.rejected + b.rejected,
    numRight: a.numRight + b.numRight,
  };
}

export function meanRewards(sums: PreferenceSums, numPairs: number): PreferenceMetrics {
  return {
    rewardsChosen: sums.chosen / numPairs,
    rewardsRejected: sums.rejected / numPairs,
    rewardsMargins: (sums.chosen - sums.rejected) / numPairs,
    rewardsAccuracies: sums.numRight / numPairs,
  };
}

/** log(1 + e^x) = -log s(-x), without overflow. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : 1 - 1 / (1 + Math.exp(x));
}
