// Where a run's events go: to its log files, to whoever listens, and to the diagnosis, whose findings are events too.

import { join } from 'node:path';
import type { TrainingEvent } from './events.js';
import { diagnose } from './monitor/diagnosis.js';
import type { Observation, RunHistory } from './monitor/run-history.js';
import { openTensorBoard } from './monitor/tensorboard.js';
import { openTrainerLog } from './monitor/trainer-log.js';
import type { TrainingRun } from './training-run.js';

export interface Reporter {
  tell(event: TrainingEvent): void;
  say(level: 'info' | 'warn', message: string): void;
  /** To the diagnosis alone. */
  observe(seen: Observation): void;
  /** The diagnosis's memory, for checkpoints. */
  history(): RunHistory;
  close(): void;
}

/** In the run's own folder; Hugging Face's name for it. */
export const TENSORBOARD_FOLDER = 'runs';

/** `doneSteps` and `history` are those of the checkpoint that the run goes on from. */
export function openReporter(run: TrainingRun, doneSteps: number, before: RunHistory): Reporter {
  const logs = [
    openTrainerLog(run.folder, doneSteps),
    openTensorBoard(join(run.folder, TENSORBOARD_FOLDER), doneSteps, run.clock),
  ];
  let history = before;

  function tell(event: TrainingEvent): void {
    for (const log of logs) log.write(event);
    run.emit(event);
    if (event.type === 'step' || event.type === 'eval') observe(event);
  }

  function observe(seen: Observation): void {
    const { history: after, findings } = diagnose(history, seen, run.options);
    history = after;
    for (const finding of findings) tell({ type: 'diagnosis', step: history.step, ...finding });
  }

  return {
    tell,
    observe,
    say: (level, message) => tell({ type: 'message', level, message }),
    history: () => history,
    close() {
      for (const log of logs) log.close();
    },
  };
}
