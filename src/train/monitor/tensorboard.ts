// A run's figures as TensorBoard event files. Tags are Hugging Face's: train/loss, eval/loss, train/rewards/chosen, ...

import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { PreferenceMetrics, TrainingEvent } from '../events.js';
import type { EventLog } from './event-log.js';
import { restartRecord, scalarsRecord, versionRecord } from './tensorboard-records.js';

/**
 * Begins a new file in `folder`, which it makes if needed. `doneSteps` are the steps of earlier files that stand.
 * `clock` gives Unix milliseconds.
 */
export function openTensorBoard(folder: string, doneSteps: number, clock: () => number): EventLog {
  mkdirSync(folder, { recursive: true });
  const name = `events.out.tfevents.${Math.floor(clock() / 1000)}.${hostname()}.${process.pid}.${doneSteps}`;
  const file = openSync(join(folder, name), 'a');
  writeSync(file, versionRecord(clock() / 1000));
  if (doneSteps > 0) writeSync(file, restartRecord(clock() / 1000, doneSteps + 1));
  return {
    write(event) {
      const scalars = scalarsOf(event);
      if (scalars !== null && 'step' in event)
        writeSync(file, scalarsRecord(clock() / 1000, event.step, scalars));
    },
    close: () => closeSync(file),
  };
}

function scalarsOf(event: TrainingEvent): Readonly<Record<string, number>> | null {
  if (event.type === 'eval') return { 'eval/loss': event.loss, ...rewardScalars('eval', event.preference) };
  if (event.type !== 'step') return null;
  return {
    'train/loss': event.loss,
    'train/learning_rate': event.learningRate,
    'train/grad_norm': event.gradNorm,
    'train/epoch': event.epoch,
    'train/tokens_per_second': event.tokensPerSecond,
    ...rewardScalars('train', event.preference),
  };
}

function rewardScalars(place: string, metrics: PreferenceMetrics | null): Record<string, number> {
  if (metrics === null) return {};
  return {
    [`${place}/rewards/chosen`]: metrics.rewardsChosen,
    [`${place}/rewards/rejected`]: metrics.rewardsRejected,
    [`${place}/rewards/margins`]: metrics.rewardsMargins,
    [`${place}/rewards/accuracies`]: metrics.rewardsAccuracies,
  };
}
