// A fine-tuning job, its events and its checkpoints as the wire has them.

import type { Job, JobCheckpoint, JobEvent, JobStatus } from '../../train/jobs/types.js';
import type { PreferenceMetrics, TrainingEvent } from '../../train/events.js';
import { EXTENSION_FIELD } from './job-extension.js';
import { optionsObject } from './options-object.js';

const ORGANIZATION = 'local';

export function jobObject(job: Job) {
  const { options } = job;
  const hyperparameters = {
    n_epochs: options.epochs,
    batch_size: options.batchSize * options.accumulation,
    learning_rate_multiplier: job.learningRateMultiplier,
  };
  return {
    id: job.id,
    object: 'fine_tuning.job',
    created_at: job.createdAt,
    model: job.base,
    fine_tuned_model: job.fineTunedModel,
    organization_id: ORGANIZATION,
    status: WIRE_STATUS[job.status],
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: job.resultFile === null ? [] : [job.resultFile],
    hyperparameters,
    method:
      options.stage === 'dpo'
        ? { type: 'dpo', dpo: { hyperparameters: { ...hyperparameters, beta: options.dpo.beta } } }
        : { type: 'supervised', supervised: { hyperparameters } },
    seed: options.seed,
    trained_tokens: job.trainedTokens > 0 ? job.trainedTokens : null,
    estimated_finish: job.estimatedFinish,
    finished_at: job.finishedAt,
    error: job.error,
    integrations: [],
    metadata: Object.keys(job.metadata).length > 0 ? job.metadata : null,
    [EXTENSION_FIELD]: {
      ...optionsObject(options),
      step: job.step,
      total_steps: job.totalSteps > 0 ? job.totalSteps : null,
      result_folder: job.resultFolder,
    },
  };
}

const WIRE_STATUS: Readonly<Record<JobStatus, string>> = {
  queued: 'queued',
  validating: 'validating_files',
  running: 'running',
  paused: 'paused',
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
};

export function jobEventObject({ id, createdAt, event }: JobEvent) {
  return {
    id,
    object: 'fine_tuning.job.event',
    created_at: createdAt,
    level: event.type === 'message' ? event.level : event.type === 'diagnosis' ? 'warn' : 'info',
    message: eventMessage(event),
    type: event.type === 'step' || event.type === 'eval' ? 'metrics' : 'message',
    data: eventData(event),
  };
}

function eventMessage(event: TrainingEvent): string {
  switch (event.type) {
    case 'step':
      return `Step ${event.step}/${event.totalSteps}: training loss=${lossText(event.loss)}`;
    case 'eval':
      return `Step ${event.step}: validation loss=${lossText(event.loss)}${event.isBest ? ', the best so far' : ''}`;
    case 'checkpoint':
      return `Checkpoint created at step ${event.step}`;
    case 'sample':
      return `Samples at step ${event.step}`;
    case 'diagnosis':
      return `${event.fault}: ${event.message} ${event.prescription}`;
    case 'message':
      return event.message;
  }
}

/** A loss that was not finite is null once it has been stored. */
function lossText(loss: number | null): string {
  return loss === null ? 'not finite' : loss.toFixed(4);
}

function eventData(event: TrainingEvent): Readonly<Record<string, unknown>> {
  switch (event.type) {
    case 'step':
      return {
        step: event.step,
        total_steps: event.totalSteps,
        epoch: event.epoch,
        train_loss: event.loss,
        learning_rate: event.learningRate,
        grad_norm: event.gradNorm,
        num_supervised_tokens: event.numSupervised,
        tokens_per_second: event.tokensPerSecond,
        elapsed_seconds: event.elapsedS,
        remaining_seconds: event.remainingS,
        ...preferenceData(event.preference),
      };
    case 'eval':
      return {
        step: event.step,
        epoch: event.epoch,
        full_valid_loss: event.loss,
        is_best: event.isBest,
        ...preferenceData(event.preference),
      };
    case 'checkpoint':
      return { step: event.step, train_loss: event.trainLoss, full_valid_loss: event.evalLoss };
    case 'sample':
      return { step: event.step, samples: event.samples };
    case 'diagnosis':
      return {
        step: event.step,
        fault: event.fault,
        message: event.message,
        prescription: event.prescription,
      };
    case 'message':
      return {};
  }
}

/** By TRL's names. */
function preferenceData(metrics: PreferenceMetrics | null): Readonly<Record<string, number>> {
  if (metrics === null) return {};
  return {
    'rewards/chosen': metrics.rewardsChosen,
    'rewards/rejected': metrics.rewardsRejected,
    'rewards/margins': metrics.rewardsMargins,
    'rewards/accuracies': metrics.rewardsAccuracies,
  };
}

export function checkpointObject(checkpoint: JobCheckpoint) {
  return {
    id: checkpoint.id,
    object: 'fine_tuning.job.checkpoint',
    created_at: checkpoint.createdAt,
    fine_tuned_model_checkpoint: checkpoint.modelName,
    fine_tuning_job_id: checkpoint.jobId,
    step_number: checkpoint.step,
    metrics: {
      step: checkpoint.step,
      ...(checkpoint.trainLoss !== null && { train_loss: checkpoint.trainLoss }),
      ...(checkpoint.evalLoss !== null && { full_valid_loss: checkpoint.evalLoss }),
    },
    /** Checkpoints that were kept are models once the job has succeeded. */
    [EXTENSION_FIELD]: { is_served: checkpoint.isServed },
  };
}
