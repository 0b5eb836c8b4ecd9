// A run's events on the terminal: a bar with the last step's figures, and a line for whatever else happens.
import { timeText } from '../../train/monitor/trainer-log.js';
import type { PreferenceMetrics, StepEvent, TrainingEvent } from '../../train/events.js';
import type { Ui } from '../progress.js';

const LABEL = 'training';

/** `loggingSteps`: steps between lines that stay. On a terminal the bar shows every step beside them. */
export function createRunDisplay(
  ui: Ui,
  loggingSteps: number,
  isTerminal: boolean,
): (event: TrainingEvent) => void {
  return (event) => {
    switch (event.type) {
      case 'step':
        if (event.step % loggingSteps === 0) ui.log(`step ${event.step}: ${stepFacts(event)}`);
        else if (!isTerminal) ui.progress(LABEL, event.step, event.totalSteps, stepFacts(event));
        if (isTerminal) ui.progress(LABEL, event.step, event.totalSteps, stepFacts(event));
        return;
      case 'eval':
        ui.log(
          `step ${event.step}: held-out loss ${event.loss.toFixed(4)}${preferenceFacts(event.preference)}${event.isBest ? ', the best so far' : ''}`,
        );
        return;
      case 'checkpoint':
        ui.log(`step ${event.step}: checkpoint ${event.path}`);
        return;
      case 'sample':
        for (const { prompt, text } of event.samples) ui.log(`step ${event.step}: ${prompt} -> ${text}`);
        return;
      case 'diagnosis':
        ui.log(`step ${event.step}: ${event.fault}: ${event.message}; to change: ${event.prescription}`);
        return;
      case 'message':
        ui.log(event.level === 'info' ? event.message : `${event.level}: ${event.message}`);
    }
  };
}

function stepFacts(event: StepEvent): string {
  return [
    `loss ${event.loss.toFixed(4)}`,
    `lr ${event.learningRate.toExponential(2)}`,
    `${Math.round(event.tokensPerSecond)} tok/s`,
    `${timeText(event.remainingS)} left`,
  ]
    .join(', ')
    .concat(preferenceFacts(event.preference));
}

function preferenceFacts(metrics: PreferenceMetrics | null): string {
  if (metrics === null) return '';
  return `, margin ${metrics.rewardsMargins.toFixed(3)}, chosen won ${(100 * metrics.rewardsAccuracies).toFixed(0)} %`;
}
