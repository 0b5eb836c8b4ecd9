// What a training file asks for, with every choice made that needs no look at the base or the data.
import { resolve } from 'node:path';
import { GatewayError } from '../../errors.js';
import type { RopeScaling } from '../../model/architecture.js';
import type { FrozenWeights, Schedule, TrainingOptions } from '../../train/options.js';
import { readEntries } from './document.js';
import { methodOf } from './method-options.js';
import { readKeys, supportedKey, type ReadKeys } from './read-keys.js';
import type { KeyValues } from './supported-keys.js';

/** An entry of dataset_info.json, or a file whose format its rows tell. */
export type DatasetName =
  { readonly kind: 'named'; readonly name: string } | { readonly kind: 'file'; readonly path: string };

/** Which data, as named; what is in them is not known here. */
export interface DataSelection {
  readonly datasets: readonly DatasetName[];
  /** Empty: held out by `validation`. */
  readonly evalDatasets: readonly DatasetName[];
  /** Absolute: where dataset_info.json lies. */
  readonly folder: string;
  /** Of each dataset; null is all. */
  readonly maxSamples: number | null;
  /** Only the last answer of a conversation is learned. */
  readonly maskHistory: boolean;
}

/** A quantity that is given as a share or as a count of something that is known later. */
export type ShareOrCount = { readonly share: number } | { readonly count: number };

export interface TrainingConfig {
  readonly model: string;
  readonly data: DataSelection;
  /** Absolute. */
  readonly outputDir: string;
  readonly overwriteOutputDir: boolean;
  /** A folder (absolute), or the newest checkpoint in outputDir. */
  readonly resumeFrom: { readonly folder: string } | 'newest' | null;
  /** Without `warmupRatio`, `validationShare` and `ropeScaling`: see completeOptions. */
  readonly options: Omit<TrainingOptions, 'warmupRatio' | 'validationShare' | 'ropeScaling'>;
  readonly warmup: ShareOrCount;
  readonly validation: ShareOrCount;
  readonly ropeScaling: Exclude<RopeScaling['type'], 'factors'> | null;
  readonly loggingSteps: number;
  /** What was given and has no effect, for the user. */
  readonly notes: readonly string[];
}

/**
 * The file's text with the words key=value of the command line over it; `file` is its name, for messages; relative paths start at `cwd`.
 * Throws GatewayError invalid_config whose message has one problem a line.
 */
export function readTrainingConfig(
  text: string,
  file: string,
  overrides: readonly string[],
  cwd: string,
): TrainingConfig {
  const problems: string[] = [];
  const notes: string[] = [];
  const entries = readEntries(text, file, overrides, problems);
  const read = problems.length > 0 ? null : readKeys(entries, problems, notes);
  if (read === null) throw refused(problems);
  const { values } = read;
  const method = methodOf(values, problems);
  checkCombinations(read, problems);
  notes.push(...unusedKeys(read));
  if (problems.length > 0) throw refused(problems);
  const schedule = scheduleOf(values, notes);
  return Object.freeze({
    model: values.model_name_or_path,
    data: {
      datasets: values.dataset.map((name) => datasetName(name, cwd)),
      evalDatasets: (values.eval_dataset ?? []).map((name) => datasetName(name, cwd)),
      folder: resolve(cwd, values.dataset_dir),
      maxSamples: values.max_samples,
      maskHistory: values.mask_history,
    },
    outputDir: resolve(cwd, values.output_dir),
    overwriteOutputDir: values.overwrite_output_dir,
    resumeFrom: resumeOf(values, cwd),
    options: optionsOf(values, method, schedule.schedule),
    warmup: schedule.warmup,
    validation: shareOrCount(values.val_size),
    ropeScaling: values.rope_scaling,
    loggingSteps: values.logging_steps,
    notes,
  });
}

function refused(problems: readonly string[]): GatewayError {
  return new GatewayError('invalid_config', problems.join('\n'));
}

function optionsOf(
  values: KeyValues,
  method: TrainingOptions['method'],
  schedule: Schedule,
): TrainingConfig['options'] {
  const { eval_strategy, save_strategy } = values;
  return {
    stage: values.stage,
    method,
    frozenWeights: frozenWeightsOf(values),
    precision: values.bf16 ? 'bf16' : 'f32',
    backend: values.backend,
    cutoffLength: values.cutoff_len,
    packing: values.neat_packing || (values.packing ?? values.stage === 'pt'),
    batchSize: values.per_device_train_batch_size,
    accumulation: values.gradient_accumulation_steps,
    epochs: values.num_train_epochs,
    maxSteps: values.max_steps > 0 ? values.max_steps : null,
    learningRate: values.learning_rate,
    schedule,
    weightDecay: values.weight_decay,
    betas: [values.adam_beta1, values.adam_beta2],
    epsilon: values.adam_epsilon,
    maxGradNorm: values.max_grad_norm,
    seed: values.seed,
    gradientCheckpointing: values.gradient_checkpointing && !values.disable_gradient_checkpointing,
    evalSteps: eval_strategy === 'steps' ? (values.eval_steps ?? values.logging_steps) : null,
    earlyStoppingPatience: values.early_stopping_steps,
    saveSteps: save_strategy === 'steps' ? values.save_steps : null,
    keepCheckpoints: values.save_total_limit ?? Number.MAX_SAFE_INTEGER,
    sampleSteps: null,
    samplePrompts: [],
    dpo: { beta: values.pref_beta, loss: values.pref_loss, labelSmoothing: values.dpo_label_smoothing },
  };
}

function frozenWeightsOf({ quantization_bit, quantization_type }: KeyValues): FrozenWeights {
  return quantization_bit === null ? 'f32' : quantization_type;
}

/** transformers' `constant` has no warm-up, `constant_with_warmup` has. */
function scheduleOf(
  values: KeyValues,
  notes: string[],
): { readonly schedule: Schedule; readonly warmup: ShareOrCount } {
  const steps = values.warmup_steps;
  const warmup = steps > 0 ? shareOrCount(steps) : { share: values.warmup_ratio };
  if (values.lr_scheduler_type === 'constant_with_warmup') return { schedule: 'constant', warmup };
  if (values.lr_scheduler_type !== 'constant') return { schedule: values.lr_scheduler_type, warmup };
  if (steps > 0 || values.warmup_ratio > 0)
    notes.push('warm-up: `lr_scheduler_type: constant` has none; `constant_with_warmup` has');
  return { schedule: 'constant', warmup: { share: 0 } };
}

function datasetName(name: string, cwd: string): DatasetName {
  return /\.jsonl?$/i.test(name) ? { kind: 'file', path: resolve(cwd, name) } : { kind: 'named', name };
}

function shareOrCount(value: number): ShareOrCount {
  return value < 1 ? { share: value } : { count: Math.round(value) };
}

function resumeOf({ resume_from_checkpoint }: KeyValues, cwd: string): TrainingConfig['resumeFrom'] {
  if (resume_from_checkpoint === null) return null;
  return resume_from_checkpoint === 'true' ? 'newest' : { folder: resolve(cwd, resume_from_checkpoint) };
}

function checkCombinations({ values }: ReadKeys, problems: string[]): void {
  const heldOut = values.val_size > 0 || values.eval_dataset !== null;
  if (values.val_size > 0 && values.eval_dataset !== null)
    problems.push('Expected one of `val_size` and `eval_dataset`, got both');
  if (!heldOut && values.eval_strategy !== 'no')
    problems.push(
      `Expected \`val_size\` or \`eval_dataset\` with \`eval_strategy: ${values.eval_strategy}\`: there is nothing to measure on`,
    );
  if (!heldOut && values.early_stopping_steps !== null)
    problems.push(
      'Expected `val_size` or `eval_dataset` with `early_stopping_steps`: there is nothing to measure on',
    );
  if (values.finetuning_type === 'full' && values.quantization_bit !== null)
    problems.push(
      'Expected `quantization_bit` to be left out with `finetuning_type: full`: the base itself is trained',
    );
  if (values.stage === 'dpo' && values.pref_loss !== 'sigmoid' && values.dpo_label_smoothing > 0)
    problems.push('Expected `dpo_label_smoothing` with `pref_loss: sigmoid` alone');
  if (/^(REMOTE:|ONLINE$)/.test(values.dataset_dir))
    problems.push(
      `Expected \`dataset_dir\` to be a folder on this machine, got \`${values.dataset_dir}\`: data are not downloaded`,
    );
  if (values.overwrite_output_dir && values.resume_from_checkpoint === 'true')
    problems.push(
      'Expected one of `overwrite_output_dir: true` and `resume_from_checkpoint: true`, got both',
    );
}

/** Keys of other methods than the one that is trained. */
function unusedKeys({ values, given }: ReadKeys): string[] {
  const method = values.finetuning_type;
  const unused = [...given].filter((name) => {
    const methods = supportedKey(name)?.methods;
    return methods !== undefined && !methods.includes(method);
  });
  const notes =
    unused.length === 0 ? [] : [`${unused.join(', ')}: not read with \`finetuning_type: ${method}\``];
  const quantization = ['quantization_type', 'quantization_method', 'double_quantization'].filter((name) =>
    given.has(name),
  );
  if (quantization.length > 0 && values.quantization_bit === null)
    notes.push(`${quantization.join(', ')}: read with \`quantization_bit: 4\` only`);
  const preference = ['pref_beta', 'pref_loss', 'dpo_label_smoothing'].filter((name) => given.has(name));
  if (preference.length > 0 && values.stage !== 'dpo')
    notes.push(`${preference.join(', ')}: read with \`stage: dpo\` only`);
  return notes;
}
