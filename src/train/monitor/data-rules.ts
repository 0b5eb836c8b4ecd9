// Faults of the data, and of the arithmetic, that a run shows.

import { figure, type Rule } from './loss-rules.js';

/** Answers to look at before their lack of an end says something. */
const MIN_SEGMENTS = 16;
/** Nats: the model gives the end, where it comes, less than a tenth of the chance that it has anywhere. */
const UNLEARNED_END = Math.log(10);

export const nonFinite: Rule = (history) => history.nonFinite;

/** Most steps so far had no label that counts. */
export const allLabelsMasked: Rule = ({ numMasked, step, totalSteps }) => {
  if (numMasked <= step / 2 || (numMasked < 3 && step < totalSteps)) return null;
  return `${numMasked} of ${step} steps had no supervised token: every label of theirs is masked`;
};

/** No answer's end is supervised, or the end is hardly ever expected though the rest is. */
export const endNotLearned: Rule = (
  { endTokens, lateEndTokens, step, totalSteps, last, numMasked },
  stage,
) => {
  if (stage === 'pt' || numMasked === step) return null;
  if (endTokens.numEnds === 0)
    return endTokens.numSegments < MIN_SEGMENTS
      ? null
      : `none of ${endTokens.numSegments} answers so far ends with a supervised end token: the model is never shown where to stop`;
  if (stage !== 'sft' || step < totalSteps || lateEndTokens.numEnds < MIN_SEGMENTS) return null;
  const endLoss = lateEndTokens.lossSum / lateEndTokens.numEnds;
  // What it costs to expect the end everywhere alike, as often as it comes.
  const blindLoss = Math.log(lateEndTokens.numTokens / lateEndTokens.numEnds);
  const loss = last.reduce((sum, value) => sum + value, 0) / last.length;
  if (endLoss < blindLoss + UNLEARNED_END || endLoss < 2 * loss) return null;
  return `at the end of answers the loss is ${figure(endLoss)}, ${figure(loss)} over all tokens: the model hardly expects to stop there`;
};
