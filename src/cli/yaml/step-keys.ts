// Keys of a training file: steps, optimizer, schedule, evaluations, checkpoints and logs.
import type { SupportedKey } from './supported-key.js';

export const STEP_KEYS = {
  per_device_train_batch_size: { kind: 'integer', min: 1, fallback: 8, help: 'rows of a micro-batch' },
  gradient_accumulation_steps: { kind: 'integer', min: 1, fallback: 1, help: 'micro-batches of a step' },
  num_train_epochs: { kind: 'number', above: 0, fallback: 3, help: 'passes over the data' },
  max_steps: { kind: 'integer', min: -1, fallback: -1, help: 'ends the run after so many steps; -1 is none' },
  learning_rate: { kind: 'number', above: 0, fallback: 5e-5, help: 'the highest of the schedule' },
  lr_scheduler_type: {
    kind: 'choice',
    choices: ['cosine', 'linear', 'constant', 'constant_with_warmup'],
    refused: Object.fromEntries(
      [
        'cosine_with_restarts',
        'cosine_with_min_lr',
        'polynomial',
        'inverse_sqrt',
        'reduce_lr_on_plateau',
        'warmup_stable_decay',
      ].map((name) => [name, 'it is not computed; the nearest is `lr_scheduler_type: cosine`']),
    ),
    fallback: 'linear',
    help: 'the schedule after the warm-up; `constant` has none',
  },
  warmup_ratio: { kind: 'number', min: 0, max: 1, fallback: 0, help: 'share of the steps that warm up' },
  warmup_steps: {
    kind: 'number',
    min: 0,
    fallback: 0,
    help: 'the same as a number of steps, or as a share where it is below 1; wins over `warmup_ratio`',
  },
  weight_decay: { kind: 'number', min: 0, fallback: 0, help: "AdamW's" },
  adam_beta1: { kind: 'number', min: 0, below: 1, fallback: 0.9, help: "AdamW's" },
  adam_beta2: { kind: 'number', min: 0, below: 1, fallback: 0.999, help: "AdamW's" },
  adam_epsilon: { kind: 'number', above: 0, fallback: 1e-8, help: "AdamW's" },
  max_grad_norm: { kind: 'number', min: 0, fallback: 1, help: 'gradients are scaled down to it; 0 is none' },
  optim: {
    kind: 'choice',
    choices: [
      'adamw_torch',
      'adamw_torch_fused',
      'adamw_hf',
      'adamw_8bit',
      'adamw_bnb_8bit',
      'paged_adamw',
      'paged_adamw_8bit',
      'paged_adamw_32bit',
    ],
    refused: Object.fromEntries(
      ['adafactor', 'sgd', 'lion_8bit', 'lion_32bit', 'rmsprop', 'adagrad', 'lomo', 'adalomo'].map((name) => [
        name,
        'it is not computed; the nearest is `optim: adamw_torch`',
      ]),
    ),
    fallback: 'adamw_torch',
    help: 'all are AdamW with its states in 32-bit floats',
  },
  seed: {
    kind: 'integer',
    min: 0,
    max: 2 ** 32 - 1,
    fallback: 42,
    help: 'of initial values, order and dropout',
  },
  disable_gradient_checkpointing: {
    kind: 'switch',
    fallback: false,
    help: 'keep every activation instead of computing it again: faster, more memory',
  },
  gradient_checkpointing: { kind: 'switch', fallback: true, help: 'the same, the other way round' },
  rope_scaling: {
    kind: 'choice',
    choices: ['linear', 'dynamic', 'yarn', 'llama3'],
    fallback: null,
    help: "stretches positions where `cutoff_len` is longer than the base's window",
  },

  eval_strategy: {
    kind: 'choice',
    choices: ['no', 'steps', 'epoch'],
    fallback: 'no',
    help: '`no` with held-out data measures once an epoch too',
  },
  eval_steps: {
    kind: 'integer',
    min: 1,
    fallback: null,
    fallbackWords: '`logging_steps`',
    help: 'steps between evaluations',
  },
  early_stopping_steps: {
    kind: 'integer',
    min: 1,
    fallback: null,
    help: 'evaluations without a better loss after which the run ends',
  },
  save_strategy: {
    kind: 'choice',
    choices: ['no', 'steps', 'epoch'],
    fallback: 'steps',
    help: '`no` keeps one checkpoint an epoch too, so that a broken run can go on',
  },
  save_steps: { kind: 'integer', min: 1, fallback: 500, help: 'steps between checkpoints' },
  save_total_limit: {
    kind: 'integer',
    min: 1,
    fallback: null,
    fallbackWords: 'all are kept',
    help: 'checkpoints kept beside the best',
  },
  logging_steps: {
    kind: 'integer',
    min: 1,
    fallback: 500,
    help: 'steps between lines on the terminal; trainer_log.jsonl has every step',
  },
  report_to: {
    kind: 'choice',
    choices: ['none', 'tensorboard'],
    refused: Object.fromEntries(
      ['all', 'wandb', 'swanlab', 'mlflow', 'trackio', 'comet_ml', 'neptune', 'clearml'].map((name) => [
        name,
        'it is not written to; the nearest is `report_to: tensorboard`',
      ]),
    ),
    fallback: 'none',
    help: "TensorBoard's events are in `output_dir`/runs in any case",
  },
} as const satisfies Readonly<Record<string, SupportedKey>>;
