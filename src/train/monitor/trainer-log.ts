// trainer_log.jsonl in LLaMA-Factory's line format (its train/callbacks.py, LogCallback): a line a step and a line an evaluation.
// Keys without a value are left out, as there.

import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { EvalEvent, StepEvent } from '../events.js';
import { TRAINER_LOG } from '../run-types.js';
import type { EventLog } from './event-log.js';

/** Appends to the log in `folder`; lines of later steps than `doneSteps` are removed first, since those steps are done again. */
export function openTrainerLog(folder: string, doneSteps: number): EventLog {
  const path = join(folder, TRAINER_LOG);
  keepLines(path, doneSteps);
  const file = openSync(path, 'a');
  let lastStep: StepEvent | null = null;
  return {
    write(event) {
      if (event.type === 'step') lastStep = event;
      if (event.type === 'step') writeSync(file, `${JSON.stringify(stepLine(event))}\n`);
      if (event.type === 'eval') writeSync(file, `${JSON.stringify(evalLine(event, lastStep))}\n`);
    },
    close: () => closeSync(file),
  };
}

function stepLine(event: StepEvent): Record<string, unknown> {
  return {
    current_steps: event.step,
    total_steps: event.totalSteps,
    loss: event.loss,
    accuracy: event.preference?.rewardsAccuracies,
    lr: event.learningRate,
    epoch: event.epoch,
    ...progress(event),
    throughput: rounded(event.tokensPerSecond),
  };
}

function evalLine(event: EvalEvent, lastStep: StepEvent | null): Record<string, unknown> {
  return {
    current_steps: event.step,
    total_steps: lastStep?.totalSteps,
    eval_loss: event.loss,
    accuracy: event.preference?.rewardsAccuracies,
    epoch: event.epoch,
    ...(lastStep === null ? {} : progress(lastStep)),
  };
}

function progress({ step, totalSteps, elapsedS, remainingS }: StepEvent): Record<string, unknown> {
  return {
    percentage: rounded((step / totalSteps) * 100),
    elapsed_time: timeText(elapsedS),
    remaining_time: timeText(remainingS),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

/** As Python writes a timedelta: 0:01:02, or 1 day, 0:01:02. */
export function timeText(seconds: number): string {
  const whole = Math.floor(seconds);
  const days = Math.floor(whole / 86_400);
  const two = (value: number) => String(value).padStart(2, '0');
  const clock = `${Math.floor((whole % 86_400) / 3600)}:${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return days === 0 ? clock : `${days} day${days === 1 ? '' : 's'}, ${clock}`;
}

/** A line that a crash cut short goes too. */
function keepLines(path: string, doneSteps: number): void {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const kept = text.split('\n').filter((line) => {
    const step = stepOf(line);
    return step !== null && step <= doneSteps;
  });
  const fresh = `${path}.tmp`;
  writeFileSync(fresh, kept.map((line) => `${line}\n`).join(''));
  renameSync(fresh, path);
}

function stepOf(line: string): number | null {
  try {
    const entry: unknown = JSON.parse(line);
    const step =
      typeof entry === 'object' && entry !== null && 'current_steps' in entry ? entry.current_steps : null;
    return typeof step === 'number' ? step : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
