// Learning rate by step: warm-up, then cosine, linear or constant, as in Hugging Face's get_*_schedule_with_warmup.

import type { Schedule } from './options.js';

export interface ScheduleOptions {
  readonly schedule: Schedule;
  /** The peak. */
  readonly learningRate: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/** As Hugging Face counts them: rounded up. */
export function warmupSteps(totalSteps: number, warmupRatio: number): number {
  return Math.ceil(totalSteps * warmupRatio);
}

/**
 * Of the step after `numDone` steps. With a warm-up the very first step has learning rate 0, as there.
 * `constant` warms up too (Hugging Face calls that constant_with_warmup).
 */
export function learningRateAt(numDone: number, options: ScheduleOptions): number {
  return options.learningRate * factorAt(numDone, options);
}

function factorAt(numDone: number, { schedule, warmupSteps: warmup, totalSteps }: ScheduleOptions): number {
  if (numDone < warmup) return numDone / Math.max(1, warmup);
  const progress = (numDone - warmup) / Math.max(1, totalSteps - warmup);
  switch (schedule) {
    case 'cosine':
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    case 'linear':
      return Math.max(0, 1 - progress);
    case 'constant':
      return 1;
  }
}
