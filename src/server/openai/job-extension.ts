// The field of a fine-tuning job that OpenAI's API does not have: what else can be chosen of a run, by the names of LLaMA-Factory's and
// PEFT's settings. options-object.ts gives the same names back.

import { z } from '@hono/zod-openapi';
import { GatewayError, nearest } from '../../errors.js';
import type { MethodChoice, OptionChoices } from '../../train/jobs/types.js';
import type { MethodName } from '../../train/options.js';
import { parseBody, unexpected } from '../request-body.js';
import { boolean, integerIn, string } from './fields.js';

export const EXTENSION_FIELD = 'x_graft';

const PROJECTIONS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;
const TARGETS = `"all" or a list of one or more of ${PROJECTIONS.join(', ')}`;

const MAX_PROMPTS = 16;
const PROMPTS = `a list of 1 to ${MAX_PROMPTS} strings, none of them empty`;

function numberWhere(phrase: string, fits: (value: number) => boolean) {
  return z.number(phrase).refine(fits, phrase);
}
const positive = () => numberWhere('a number above 0', (value) => value > 0);
const share = () => numberWhere('a number from 0 to below 1', (value) => value >= 0 && value < 1);
const atLeastZero = () => numberWhere('a number of at least 0', (value) => value >= 0);
function oneOf<const T extends readonly string[]>(values: T) {
  return z.enum(values, `one of ${values.map((value) => `"${value}"`).join(', ')}`);
}

const runFields = {
  stage: oneOf(['sft', 'pt', 'dpo']),
  quantization: oneOf(['none', 'int4', 'nf4']),
  precision: oneOf(['f32', 'bf16']),
  backend: oneOf(['onnx', 'tfjs']),
  cutoff_len: integerIn(16, 1_048_576),
  packing: boolean(),
  rope_scaling: string(),
  gradient_accumulation_steps: integerIn(1, 256),
  max_steps: integerIn(1, 10_000_000),
  learning_rate: positive(),
  lr_scheduler_type: oneOf(['cosine', 'linear', 'constant']),
  warmup_ratio: numberWhere('a number between 0 and 1', (value) => value >= 0 && value <= 1),
  weight_decay: atLeastZero(),
  adam_beta1: share(),
  adam_beta2: share(),
  adam_epsilon: positive(),
  max_grad_norm: atLeastZero(),
  gradient_checkpointing: boolean(),
  val_size: share(),
  eval_steps: integerIn(1, 10_000_000),
  early_stopping_patience: z.union(
    [integerIn(1, 1_000_000), z.literal('never')],
    'an integer of at least 1, or "never"',
  ),
  save_steps: integerIn(1, 10_000_000),
  save_total_limit: integerIn(1, 1_000),
  sample_steps: integerIn(1, 10_000_000),
  sample_prompts: z
    .array(z.string(PROMPTS).min(1, PROMPTS), PROMPTS)
    .min(1, PROMPTS)
    .max(MAX_PROMPTS, PROMPTS),
  pref_loss: oneOf(['sigmoid', 'hinge', 'ipo']),
  dpo_label_smoothing: numberWhere('a number from 0 to below 0.5', (value) => value >= 0 && value < 0.5),
  adapter_name: string(),
  finetuning_type: oneOf([
    'lora',
    'prefix_tuning',
    'prompt_tuning',
    'p_tuning',
    'bitfit',
    'bottleneck',
    'full',
  ]),
};

const methodFields = {
  lora_rank: integerIn(1, 1024),
  lora_alpha: positive(),
  lora_dropout: share(),
  lora_target: z.union(
    [z.literal('all'), z.array(z.enum(PROJECTIONS, TARGETS), TARGETS).min(1, TARGETS)],
    TARGETS,
  ),
  use_rslora: boolean(),
  loraplus_lr_ratio: positive(),
  num_virtual_tokens: integerIn(1, 1024),
  prefix_projection: boolean(),
  encoder_hidden_size: integerIn(1, 65_536),
  encoder_reparameterization_type: oneOf(['mlp', 'lstm']),
  prompt_tuning_init_text: string(),
  bottleneck_size: integerIn(1, 65_536),
};

const METHODS_OF: Readonly<Record<keyof typeof methodFields, readonly MethodName[]>> = {
  lora_rank: ['lora'],
  lora_alpha: ['lora'],
  lora_dropout: ['lora'],
  lora_target: ['lora', 'bitfit'],
  use_rslora: ['lora'],
  loraplus_lr_ratio: ['lora'],
  num_virtual_tokens: ['prefix_tuning', 'prompt_tuning', 'p_tuning'],
  prefix_projection: ['prefix_tuning'],
  encoder_hidden_size: ['prefix_tuning', 'p_tuning'],
  encoder_reparameterization_type: ['p_tuning'],
  prompt_tuning_init_text: ['prompt_tuning'],
  bottleneck_size: ['bottleneck'],
};

export const jobExtension = z.strictObject({ ...runFields, ...methodFields }, 'an object').partial();
export type JobExtension = z.infer<typeof jobExtension>;

/** Throws unsupported_parameter with what an unknown key may have meant, and invalid_value. */
export function parseExtension(value: Readonly<Record<string, unknown>>): JobExtension {
  const known = Object.keys(jobExtension.shape);
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    const path = `${EXTENSION_FIELD}.${unknown}`;
    throw new GatewayError(
      'unsupported_parameter',
      `\`${path}\` is not supported; remove it from the request${nearest(unknown, known)}`,
      { param: path },
    );
  }
  const wrapped = parseBody(
    { [EXTENSION_FIELD]: value },
    z.strictObject({ [EXTENSION_FIELD]: jobExtension }),
  );
  const extension = wrapped[EXTENSION_FIELD];
  checkMethodFields(extension);
  return extension;
}

/** The learned part of the choices: what OpenAI's own fields do not say. */
export function toOptionChoices(
  extension: JobExtension,
): Omit<OptionChoices, 'batchSize' | 'epochs' | 'learningRateMultiplier' | 'dpo' | 'seed' | 'stage'> {
  const patience = extension.early_stopping_patience;
  return {
    method: toMethod(extension),
    frozenWeights: extension.quantization === 'none' ? 'f32' : extension.quantization,
    precision: extension.precision,
    backend: extension.backend,
    cutoffLength: extension.cutoff_len,
    packing: extension.packing,
    accumulation: extension.gradient_accumulation_steps,
    maxSteps: extension.max_steps,
    learningRate: extension.learning_rate,
    schedule: extension.lr_scheduler_type,
    warmupRatio: extension.warmup_ratio,
    weightDecay: extension.weight_decay,
    betas: toBetas(extension),
    epsilon: extension.adam_epsilon,
    maxGradNorm: extension.max_grad_norm,
    gradientCheckpointing: extension.gradient_checkpointing,
    validationShare: extension.val_size,
    evalSteps: extension.eval_steps,
    earlyStoppingPatience: patience === 'never' ? null : patience,
    saveSteps: extension.save_steps,
    keepCheckpoints: extension.save_total_limit,
    sampleSteps: extension.sample_steps,
    samplePrompts: extension.sample_prompts,
  };
}

function toBetas({ adam_beta1: first, adam_beta2: second }: JobExtension): OptionChoices['betas'] {
  return first === undefined && second === undefined ? undefined : [first ?? 0.9, second ?? 0.999];
}

function toMethod(extension: JobExtension): MethodChoice {
  const name = extension.finetuning_type ?? 'lora';
  const targets = extension.lora_target === 'all' ? undefined : extension.lora_target;
  const numVirtualTokens = extension.num_virtual_tokens;
  const hidden = extension.encoder_hidden_size;
  switch (name) {
    case 'lora':
      return {
        name,
        rank: extension.lora_rank,
        alpha: extension.lora_alpha,
        rslora: extension.use_rslora,
        dropout: extension.lora_dropout,
        targets: targets && PROJECTIONS.filter((projection) => targets.includes(projection)),
        plusRatio: extension.loraplus_lr_ratio,
      };
    case 'prefix_tuning':
      return {
        name,
        numVirtualTokens,
        projection: extension.prefix_projection === true ? { hidden: hidden ?? 512 } : null,
      };
    case 'prompt_tuning':
      return { name, numVirtualTokens, initText: extension.prompt_tuning_init_text };
    case 'p_tuning':
      return { name, numVirtualTokens, encoder: extension.encoder_reparameterization_type, hidden };
    case 'bitfit':
      return { name, targets: targets && PROJECTIONS.filter((projection) => targets.includes(projection)) };
    case 'bottleneck':
      return { name, size: extension.bottleneck_size };
    case 'full':
      return { name };
  }
}

/** A field that the method does not have would be ignored. */
function checkMethodFields(extension: JobExtension): void {
  const method = extension.finetuning_type ?? 'lora';
  const keys = Object.keys(METHODS_OF) as (keyof typeof METHODS_OF)[];
  for (const key of keys) {
    if (extension[key] === undefined || METHODS_OF[key].includes(method)) continue;
    throw unexpected(
      `${EXTENSION_FIELD}.${key}`,
      `absent with \`finetuning_type\` "${method}": it belongs to ${METHODS_OF[key].join(', ')}`,
      extension[key],
    );
  }
  if (
    extension.encoder_hidden_size !== undefined &&
    method === 'prefix_tuning' &&
    !extension.prefix_projection
  )
    throw unexpected(
      `${EXTENSION_FIELD}.encoder_hidden_size`,
      'absent unless `prefix_projection` is true',
      extension.encoder_hidden_size,
    );
}
