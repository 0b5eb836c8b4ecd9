// How many steps a run has, and which micro-batches each of them takes. The last step of an epoch takes what is left.

import { assert } from '../errors.js';
import type { TrainingOptions } from './options.js';

export interface RunPlan {
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
}

/** The micro-batches [start, end) of an epoch, counted from 0. */
export interface Window {
  readonly epoch: number;
  readonly start: number;
  readonly end: number;
}

export function planRun(
  numMicroBatches: number,
  options: Pick<TrainingOptions, 'accumulation' | 'epochs' | 'maxSteps'>,
): RunPlan {
  assert(numMicroBatches >= 1, `a run needs a micro-batch, there are ${numMicroBatches}`);
  const stepsPerEpoch = Math.ceil(numMicroBatches / options.accumulation);
  const steps = Math.ceil(options.epochs * stepsPerEpoch);
  return { stepsPerEpoch, totalSteps: Math.min(steps, options.maxSteps ?? Infinity) };
}

/** Of the step after `numDone` steps. */
export function windowAt(
  numDone: number,
  plan: RunPlan,
  numMicroBatches: number,
  accumulation: number,
): Window {
  const start = (numDone % plan.stepsPerEpoch) * accumulation;
  return {
    epoch: Math.floor(numDone / plan.stepsPerEpoch),
    start,
    end: Math.min(start + accumulation, numMicroBatches),
  };
}

/** Whether something that is due every `interval` steps (null: once an epoch) is due after `step` steps. The last step is always due. */
export function isDue(step: number, interval: number | null, plan: RunPlan): boolean {
  return step === plan.totalSteps || step % (interval ?? plan.stepsPerEpoch) === 0;
}
