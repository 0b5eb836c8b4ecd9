// The training loop: steps over accumulation windows, evaluations, checkpoints, samples, early stopping, and going on after a break.
// It knows models, methods and data by their protocols only; nothing random happens here that is not a function of the options' seed.

import { accumulateWindow, evaluatePass } from './accumulation.js';
import { updateAdamW } from './adamw.js';
import { isExhausted, recordEvaluation } from './early-stopping.js';
import type { Outcome, StepEvent } from './events.js';
import { clipGradients, gradientNorm } from './gradient-clip.js';
import { lossError, meanLoss, meanPreference, type Measurement } from './measurement.js';
import { RunFailure } from './run-failure.js';
import { isDue, windowAt } from './run-plan.js';
import { learningRateAt, warmupSteps } from './schedule.js';
import { openSession, type Session } from './session.js';
import type { TrainingRun } from './training-run.js';

/**
 * Trains to the end, or goes on from the newest checkpoint in the run's folder. Leaves there `checkpoints/`, trainer_log.jsonl,
 * `runs/` (TensorBoard), and `adapter/`: that of the best evaluation, or of the last step where there was none. A loss, gradient or weight that
 * is not finite ends the run as `failed`; the weights are then those of the last good step. Throws GatewayError invalid_value where options
 * do not go together or the folder holds another run; what the model throws passes through.
 */
export async function train(run: TrainingRun): Promise<Outcome> {
  const session = await openSession(run);
  try {
    return await loop(session);
  } catch (error) {
    if (!(error instanceof RunFailure)) throw error;
    if (error.code === 'non_finite') session.reporter.observe({ type: 'non_finite', message: error.message });
    await session.publish();
    return { kind: 'failed', step: error.step, code: error.code, message: error.message };
  } finally {
    session.close();
  }
}

async function loop(session: Session): Promise<Outcome> {
  const { progress, plan, run } = session;
  for (;;) {
    // Asked before each step, since a checkpoint may be that of the last step, or of the evaluation that ended the run.
    if (!progress.owesEvaluation) {
      if (progress.step >= plan.totalSteps) return finish(session, 'finished');
      if (isExhausted(progress.earlyStopping, run.options.earlyStoppingPatience))
        return finish(session, 'early_stopped');
    }
    if (progress.owesEvaluation || (await runStep(session))) await afterStep(session);
    if (session.control() === 'cancel') return session.outcome('stopped');
    if (session.control() !== 'run') return finish(session, 'stopped');
  }
}

async function finish(session: Session, kind: 'finished' | 'early_stopped' | 'stopped'): Promise<Outcome> {
  await session.save();
  await session.publish();
  return session.outcome(kind);
}

/** Gradients of a window, then the update. False where it was broken off, which leaves no trace. */
async function runStep(session: Session): Promise<boolean> {
  const { run, plan, progress, objective } = session;
  const { model, batches, options, endTokens } = run;
  const startMs = run.clock();
  const window = windowAt(progress.step, plan, batches.numMicroBatches, options.accumulation);
  const seed = hasDropout(run) ? options.seed : null;
  const isInterrupted = () => session.control() !== 'run';
  const pass = { model, objective, batches, endTokens, isInterrupted };
  const measured = await accumulateWindow(pass, window, seed);
  if (measured === null) return false;
  const event = stepEvent(session, measured, startMs);
  await checkStep(session, event);
  if (measured.numUnits > 0) {
    clipGradients(model.parameters, event.gradNorm, options.maxGradNorm);
    updateAdamW(model.parameters, session.optimizer, options, event.learningRate);
  }
  progress.step = event.step;
  progress.trainLoss = event.loss;
  progress.numSupervised += measured.numSupervised;
  progress.owesEvaluation = run.evalBatches !== null && isDue(event.step, options.evalSteps, plan);
  session.reporter.tell(event);
  session.reporter.observe({
    type: 'detail',
    lossError: lossError(measured),
    endTokens: endTokens.size > 0 ? measured.endTokens : null,
  });
  if (progress.numSupervised === 0 && isDue(event.step, null, plan))
    throw new RunFailure(
      'all_labels_masked',
      event.step,
      `none of the ${event.step} steps so far had a supervised token: there is nothing to learn`,
    );
  return true;
}

/** Before the update, so that the weights stay good; what they are is saved. Throws RunFailure non_finite. */
async function checkStep(session: Session, event: StepEvent): Promise<void> {
  const { progress } = session;
  if (Number.isFinite(event.loss) && Number.isFinite(event.gradNorm)) return;
  if (progress.step > 0) await session.save();
  throw new RunFailure(
    'non_finite',
    event.step,
    `step ${event.step} has loss ${event.loss} and gradient norm ${event.gradNorm}; the weights are those of step ${progress.step}`,
  );
}

function stepEvent(session: Session, measured: Measurement, startMs: number): StepEvent {
  const { run, plan, progress } = session;
  const { options } = run;
  const nowMs = run.clock();
  const done = progress.step + 1;
  const seconds = (nowMs - startMs) / 1000;
  const secondsAStep = (nowMs - session.startMs) / 1000 / (done - session.startStep);
  const schedule = { ...options, ...plan, warmupSteps: warmupSteps(plan.totalSteps, options.warmupRatio) };
  return {
    type: 'step',
    step: done,
    totalSteps: plan.totalSteps,
    epoch: done / plan.stepsPerEpoch,
    loss: meanLoss(measured),
    learningRate: learningRateAt(progress.step, schedule),
    gradNorm: gradientNorm(run.model.parameters),
    numSupervised: measured.numSupervised,
    tokensPerSecond: seconds > 0 ? measured.numTokens / seconds : 0,
    elapsedS: session.elapsedMs() / 1000,
    remainingS: (plan.totalSteps - done) * secondsAStep,
    preference: meanPreference(measured),
  };
}

/** In this order: a checkpoint holds its step's evaluation, and does not wait for samples. */
async function afterStep(session: Session): Promise<void> {
  const { run, plan, progress } = session;
  const { saveSteps, sampleSteps } = run.options;
  const isBest = progress.owesEvaluation && (await evaluate(session));
  if (session.control() === 'cancel') return;
  if (isBest || isDue(progress.step, saveSteps, plan)) await session.save();
  if (sampleSteps !== null && isDue(progress.step, sampleSteps, plan)) await sample(session);
}

/** Whether the held-out loss is the best so far. An evaluation that was broken off is still owed, and made by the run that goes on. */
async function evaluate(session: Session): Promise<boolean> {
  const { run, plan, progress, objective, reporter } = session;
  const { model, evalBatches, endTokens } = run;
  if (evalBatches === null) return false;
  const isInterrupted = () => session.control() !== 'run';
  const measured = await evaluatePass({ model, objective, batches: evalBatches, endTokens, isInterrupted });
  if (measured === null) return false;
  progress.owesEvaluation = false;
  if (measured.numUnits === 0) {
    reporter.say('warn', 'no held-out row has a supervised token: the evaluation is left out');
    return false;
  }
  const loss = meanLoss(measured);
  const earlyStopping = recordEvaluation(progress.earlyStopping, progress.step, loss);
  const isBest = earlyStopping.bestStep === progress.step;
  const { step } = progress;
  const preference = meanPreference(measured);
  const event = { type: 'eval' as const, step, epoch: step / plan.stepsPerEpoch, loss, isBest, preference };
  if (!Number.isFinite(loss))
    throw new RunFailure('non_finite', step, `the evaluation after step ${step} has loss ${loss}`);
  progress.evalLoss = loss;
  progress.earlyStopping = earlyStopping;
  reporter.tell(event);
  return isBest;
}

async function sample(session: Session): Promise<void> {
  const { run, reporter } = session;
  const { step } = session.progress;
  if (run.sample === null || session.control() !== 'run') return;
  try {
    const samples = await run.sample(step, await run.method.files());
    if (samples.length > 0) reporter.tell({ type: 'sample', step, samples });
  } catch (error) {
    reporter.say('warn', `there are no samples of step ${step}: ${String(error)}`);
  }
}

function hasDropout({ method }: TrainingRun): boolean {
  return Object.values(method.additions.lora).some(({ dropout }) => dropout > 0);
}
