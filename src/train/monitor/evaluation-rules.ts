// Faults that evaluations show: always over the same rows, so what changes is the model.

import { figure, type Rule } from './loss-rules.js';

/** The held-out loss has been above its best for two evaluations, while the training loss went on falling. */
export const overfitting: Rule = ({ bestEvaluation: best, evaluations }) => {
  if (best === null) return null;
  const since = evaluations.filter(({ step }) => step > best.step);
  const last = since.at(-1);
  if (last === undefined || since.length < 2) return null;
  const isRising = since.every(({ loss }) => loss > best.loss) && last.loss > 1.02 * best.loss + 0.002;
  if (!isRising || last.trainLoss > 0.98 * best.trainLoss) return null;
  return (
    `the loss over held-out rows was ${figure(best.loss)} at step ${best.step} and has risen to ${figure(last.loss)} ` +
    `at step ${last.step}, while the training loss fell from ${figure(best.trainLoss)} to ${figure(last.trainLoss)}`
  );
};

/** The held-out loss goes up and down by turns, by a tenth of itself and more. */
export const oscillatingEvaluations: Rule = ({ evaluations }) => {
  const losses = evaluations.map(({ loss }) => loss);
  const changes = losses.slice(1).map((loss, index) => loss - losses[index]!);
  if (changes.length < 4) return null;
  const alternates = changes.slice(1).every((change, index) => change * changes[index]! < 0);
  const least = Math.min(...changes.map((change) => Math.abs(change)));
  const typical = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  if (!alternates || least < 0.1 * typical || least < 0.05) return null;
  return `the loss over held-out rows goes up and down: ${losses.map((loss) => figure(loss)).join(', ')}`;
};
