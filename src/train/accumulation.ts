// The passes over data: gradients of one accumulation window, and the loss of the held-out rows. Between two micro-batches either may
// be broken off; then there is no result.

import type { TrainingBatch } from '../data/types.js';
import type { BatchSource } from './batch-source.js';
import { addBatch, addIdleBatch, type Measurement, NOTHING_MEASURED } from './measurement.js';
import type { Objective } from './objective.js';
import { randomBits } from './random-numbers.js';
import type { Window } from './run-plan.js';
import type { TrainingModel } from './types.js';

export interface Pass {
  readonly model: TrainingModel;
  readonly objective: Objective;
  readonly batches: BatchSource;
  /** Labels that end an answer. */
  readonly endTokens: ReadonlySet<number>;
  /** Asked before each micro-batch. */
  readonly isInterrupted: () => boolean;
}

/** Leaves the window's gradient, and it alone, in the model's parameters. `seed` null is without dropout; null is broken off. */
export async function accumulateWindow(
  { model, objective, batches, endTokens, isInterrupted }: Pass,
  { epoch, start, end }: Window,
  seed: number | null,
): Promise<Measurement | null> {
  for (const { gradient } of model.parameters) gradient.fill(0);
  const window: TrainingBatch[] = [];
  for (let index = start; index < end; index++) window.push(batches.microBatch(epoch, index));
  const units = window.map((batch) => objective.countUnits(batch));
  const windowUnits = units.reduce((sum, count) => sum + count, 0);
  let sum = NOTHING_MEASURED;
  for (const [at, batch] of window.entries()) {
    if (isInterrupted()) return null;
    if (units[at] === 0) {
      sum = addIdleBatch(sum, batch);
      continue;
    }
    // A function of the place in the data, so that there is no state of it to save.
    const batchSeed = seed === null ? null : randomBits(seed, epoch, start + at)();
    sum = addBatch(sum, batch, await objective.accumulate(model, batch, windowUnits, batchSeed), endTokens);
  }
  return sum;
}

/** Over the source's first epoch. Every token (or pair) weighs the same, whatever batch it is in. null is broken off. */
export async function evaluatePass({
  model,
  objective,
  batches,
  endTokens,
  isInterrupted,
}: Pass): Promise<Measurement | null> {
  let sum = NOTHING_MEASURED;
  for (let index = 0; index < batches.numMicroBatches; index++) {
    if (isInterrupted()) return null;
    const batch = batches.microBatch(0, index);
    sum =
      objective.countUnits(batch) === 0
        ? addIdleBatch(sum, batch)
        : addBatch(sum, batch, await objective.evaluate(model, batch), endTokens);
  }
  return sum;
}
