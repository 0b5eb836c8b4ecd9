// A run's summary in figures, under Hugging Face's names where it has them.
import type { EvalEvent, Outcome, StepEvent, TrainingEvent } from '../../train/events.js';

export interface ResultsCollector {
  take(event: TrainingEvent): void;
  /** What all_results.json holds. */
  results(outcome: Outcome): object;
}

/** `trainedParameters`: what the method trains. */
export function collectResults(trainedParameters: number): ResultsCollector {
  let last: StepEvent | null = null;
  let best: EvalEvent | null = null;
  let [lossSum, steps, supervised] = [0, 0, 0];
  const faults = new Set<string>();
  return {
    take(event) {
      if (event.type === 'step') {
        last = event;
        lossSum += event.loss;
        steps++;
        supervised += event.numSupervised;
      }
      if (event.type === 'eval' && event.isBest) best = event;
      if (event.type === 'diagnosis') faults.add(event.fault);
    },
    results: (outcome) => ({
      outcome: outcome.kind,
      step: outcome.step,
      ...('bestStep' in outcome ? { best_step: outcome.bestStep } : { error: outcome.message }),
      epoch: last?.epoch,
      // Of the steps of this call: a run that was taken up has others before them.
      train_loss: steps === 0 ? undefined : lossSum / steps,
      train_runtime: last?.elapsedS,
      train_steps_per_second: last === null || last.elapsedS === 0 ? undefined : last.step / last.elapsedS,
      num_supervised_tokens: supervised,
      eval_loss: best?.loss,
      trainable_params: trainedParameters,
      diagnoses: [...faults],
    }),
  };
}
