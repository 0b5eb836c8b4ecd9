// A run as it goes on in this process: where it stands, and how that gets on disk and back.

import { type AdamWState, initialAdamWState } from './adamw.js';
import type { RunState } from './checkpoint.js';
import { type CheckpointStore, openCheckpoints } from './checkpoint-store.js';
import { type EarlyStopping, NOTHING_EVALUATED } from './early-stopping.js';
import type { Outcome } from './events.js';
import { EMPTY_HISTORY } from './monitor/run-history.js';
import { createObjective, type Objective } from './objective.js';
import { openReporter, type Reporter } from './reporter.js';
import { RunFailure } from './run-failure.js';
import { runIdentity } from './run-identity.js';
import { planRun, type RunPlan, windowAt } from './run-plan.js';
import type { Control } from './run-types.js';
import type { TrainingRun } from './training-run.js';

/** What steps and evaluations change. */
export interface Progress {
  /** Steps done. */
  step: number;
  earlyStopping: EarlyStopping;
  trainLoss: number | null;
  evalLoss: number | null;
  numSupervised: number;
  /** The step's evaluation was due, and has not been made or was broken off. */
  owesEvaluation: boolean;
}

export interface Session {
  readonly run: TrainingRun;
  readonly plan: RunPlan;
  readonly objective: Objective;
  readonly optimizer: AdamWState;
  readonly progress: Progress;
  readonly reporter: Reporter;
  /** When this process began, and with how many steps done. */
  readonly startMs: number;
  readonly startStep: number;
  /** Of this process and those before it. */
  elapsedMs(): number;
  /** What the run is asked to do; a request to end is not forgotten if it is taken back. */
  control(): Control;
  /** A checkpoint of the steps done, unless there is one. Throws RunFailure non_finite, and writes nothing, where a weight is not finite. */
  save(): Promise<void>;
  /** Makes the adapter of the best evaluation, or the newest one, the run's own. Does nothing where no checkpoint is. */
  publish(): Promise<void>;
  outcome(kind: 'finished' | 'early_stopped' | 'stopped'): Outcome;
  close(): void;
}

/** Goes on from the newest checkpoint in the run's folder, if any. */
export async function openSession(run: TrainingRun): Promise<Session> {
  const { options, model, batches } = run;
  const objective = createObjective(options);
  const plan = planRun(batches.numMicroBatches, options);
  const optimizer = initialAdamWState(model.parameters);
  const fingerprints = [batches, run.evalBatches].map((source) => source?.fingerprint ?? 'none');
  const identity = runIdentity(options, fingerprints, model.parameters);
  const checkpoints = await openCheckpoints(run.folder);
  const damaged: string[] = [];
  const own = { method: run.method.name, identity };
  const before = await checkpoints.resume(model.parameters, optimizer, own, (text) => damaged.push(text));
  const reporter = openReporter(run, before?.step ?? 0, before?.history ?? EMPTY_HISTORY);
  for (const message of damaged) reporter.say('warn', message);
  if (before !== null) reporter.say('info', `going on from the checkpoint of step ${before.step}`);
  const progress: Progress = {
    step: before?.step ?? 0,
    earlyStopping: before?.earlyStopping ?? NOTHING_EVALUATED,
    trainLoss: before?.trainLoss ?? null,
    evalLoss: before?.evalLoss ?? null,
    numSupervised: before?.numSupervised ?? 0,
    owesEvaluation: before?.owesEvaluation ?? false,
  };
  const startMs = run.clock();
  const elapsedMs = () => (before?.elapsedMs ?? 0) + run.clock() - startMs;
  /** Of the newest checkpoint. */
  let saved = before === null ? null : { step: progress.step, owesEvaluation: progress.owesEvaluation };
  let wanted: Control = 'run';

  function state(): RunState {
    const next = windowAt(progress.step, plan, batches.numMicroBatches, options.accumulation);
    return {
      ...own,
      ...progress,
      seed: options.seed,
      epoch: next.epoch,
      microBatch: next.start,
      numUpdates: optimizer.numUpdates,
      elapsedMs: elapsedMs(),
      history: reporter.history(),
    };
  }

  return {
    run,
    plan,
    objective,
    optimizer,
    progress,
    reporter,
    startMs,
    startStep: progress.step,
    elapsedMs,
    control() {
      const now = run.control();
      if (now !== 'run') wanted = now;
      return wanted;
    },
    async save() {
      const { step, owesEvaluation } = progress;
      if (saved?.step === step && saved.owesEvaluation === owesEvaluation) return;
      checkFinite(run, step);
      const contents = {
        state: state(),
        parameters: model.parameters,
        optimizer,
        adapterFiles: await run.method.files(),
      };
      await checkpoints.save(contents, options.keepCheckpoints, progress.earlyStopping.bestStep);
      saved = { step, owesEvaluation };
      tellCheckpoint(reporter, progress, checkpoints);
    },
    async publish() {
      const step = progress.earlyStopping.bestStep ?? saved?.step;
      if (step !== undefined) await checkpoints.publish(step);
    },
    outcome: (kind) => ({
      kind,
      step: progress.step,
      bestStep: progress.earlyStopping.bestStep ?? progress.step,
    }),
    close: () => reporter.close(),
  };
}

/** Before the first step there is no loss to tell of. */
function tellCheckpoint(reporter: Reporter, progress: Progress, checkpoints: CheckpointStore): void {
  if (progress.trainLoss === null) return;
  reporter.tell({
    type: 'checkpoint',
    step: progress.step,
    path: checkpoints.pathOf(progress.step),
    trainLoss: progress.trainLoss,
    evalLoss: progress.evalLoss,
  });
}

function checkFinite({ model }: TrainingRun, step: number): void {
  for (const { name, values } of model.parameters) {
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at >= 0)
      throw new RunFailure(
        'non_finite',
        step,
        `value ${at} of \`${name}\` is ${values[at]} after step ${step}`,
      );
  }
}
