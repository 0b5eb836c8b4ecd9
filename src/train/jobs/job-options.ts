// From what was chosen to TrainingOptions with every choice made: the defaults, and what "auto" means for the data and the method.
// docs/fine-tuning.md has the same tables.

import {
  DEFAULT_OPTIONS,
  DEFAULT_TARGETS,
  type MethodName,
  type MethodOptions,
  type Stage,
  type TrainingOptions,
} from '../options.js';
import type { MethodChoice, OptionChoices } from './types.js';

/**
 * Starting points for AdamW, of which learningRateMultiplier is a multiple. LoRA and full: what LLaMA-Factory, Unsloth and torchtune use,
 * from 1e-4 to 3e-4 and from 1e-5 to 5e-5. Few parameters far from the output take far more (prompt tuning, prefixes, biases); the
 * encoders of P-tuning and of projected prefixes less than the bare tensors.
 */
const LEARNING_RATES: Readonly<Record<MethodName, number>> = {
  lora: 3e-4,
  prefix_tuning: 1e-2,
  prompt_tuning: 3e-2,
  p_tuning: 1e-3,
  bitfit: 1e-3,
  bottleneck: 1e-3,
  full: 2e-5,
};
const PROJECTED_PREFIX_RATE = 1e-3;
/** 5e-6 for LoRA, as LLaMA-Factory and Unsloth have it: a preference loss has no floor, and a large step leaves the reference behind. */
const DPO_FACTOR = 1 / 60;

const MAX_AUTO_BATCH = 8;
/** Of one epoch, so that a small file is not one step. */
const MIN_AUTO_STEPS = 16;
/** Steps that a small file's epochs should come to. */
const AUTO_TOTAL_STEPS = 100;
/** [fewest, most]. */
const AUTO_EPOCHS = { sft: [3, 10], pt: [1, 3], dpo: [1, 3] } as const satisfies Record<
  Stage,
  readonly [number, number]
>;
/** Rows of a micro-batch where accumulation is not chosen. */
const MAX_MICRO_BATCH = 8;

export interface ResolvedOptions {
  readonly options: TrainingOptions;
  readonly learningRateMultiplier: number;
}

/** @param contextLength of the base: no example may be longer, unless its rope is scaled */
export function resolveOptions(
  choices: OptionChoices,
  numExamples: number,
  contextLength: number,
): ResolvedOptions {
  const stage = choices.stage ?? DEFAULT_OPTIONS.stage;
  const method = resolveMethod(choices.method);
  const examples = Math.max(1, numExamples);
  const batch =
    choices.batchSize === 'auto'
      ? clamp(Math.ceil(examples / MIN_AUTO_STEPS), 1, MAX_AUTO_BATCH)
      : choices.batchSize;
  const accumulation = choices.accumulation ?? fewestMicroBatches(batch);
  const epochs = choices.epochs === 'auto' ? autoEpochs(stage, batch, examples) : choices.epochs;
  const multiplier = choices.learningRateMultiplier === 'auto' ? 1 : choices.learningRateMultiplier;
  const { dpo } = DEFAULT_OPTIONS;
  return {
    learningRateMultiplier: multiplier,
    options: {
      ...DEFAULT_OPTIONS,
      cutoffLength: Math.min(DEFAULT_OPTIONS.cutoffLength, contextLength),
      ...withoutUndefined(plainChoices(choices)),
      stage,
      method,
      batchSize: batch / accumulation,
      accumulation,
      epochs,
      learningRate: choices.learningRate ?? multiplier * baseLearningRate(method, stage),
      dpo: {
        beta: choices.dpo.beta === 'auto' ? dpo.beta : choices.dpo.beta,
        loss: choices.dpo.loss ?? dpo.loss,
        labelSmoothing: choices.dpo.labelSmoothing ?? dpo.labelSmoothing,
      },
    },
  };
}

export function baseLearningRate(method: MethodOptions, stage: Stage): number {
  const isProjected = method.name === 'prefix_tuning' && method.projection !== null;
  const rate = isProjected ? PROJECTED_PREFIX_RATE : LEARNING_RATES[method.name];
  return stage === 'dpo' ? rate * DPO_FACTOR : rate;
}

function resolveMethod(choice: MethodChoice): MethodOptions {
  switch (choice.name) {
    case 'lora': {
      const rank = choice.rank ?? 16;
      return {
        name: 'lora',
        rank,
        alpha: choice.alpha ?? 2 * rank,
        rslora: choice.rslora ?? false,
        dropout: choice.dropout ?? 0,
        targets: choice.targets ?? DEFAULT_TARGETS,
        plusRatio: choice.plusRatio ?? 1,
      };
    }
    case 'prefix_tuning':
      return {
        name: 'prefix_tuning',
        numVirtualTokens: choice.numVirtualTokens ?? 16,
        projection: choice.projection ?? null,
      };
    case 'prompt_tuning':
      return {
        name: 'prompt_tuning',
        numVirtualTokens: choice.numVirtualTokens ?? 16,
        initText: choice.initText ?? null,
      };
    case 'p_tuning':
      return {
        name: 'p_tuning',
        numVirtualTokens: choice.numVirtualTokens ?? 16,
        encoder: choice.encoder ?? 'mlp',
        hidden: choice.hidden ?? 512,
      };
    case 'bitfit':
      return { name: 'bitfit', targets: choice.targets ?? DEFAULT_TARGETS };
    case 'bottleneck':
      return { name: 'bottleneck', size: choice.size ?? 64 };
    case 'full':
      return { name: 'full' };
  }
}

/** The choices that are TrainingOptions as they stand. */
function plainChoices(choices: OptionChoices) {
  const {
    method: _method,
    batchSize: _batchSize,
    epochs: _epochs,
    learningRateMultiplier: _multiplier,
    learningRate: _learningRate,
    accumulation: _accumulation,
    dpo: _dpo,
    ...plain
  } = choices;
  return plain;
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };
function withoutUndefined<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Present<T>;
}

function autoEpochs(stage: Stage, batch: number, numExamples: number): number {
  const [fewest, most] = AUTO_EPOCHS[stage];
  return clamp(Math.ceil((AUTO_TOTAL_STEPS * batch) / numExamples), fewest, most);
}

/** The fewest micro-batches of at most MAX_MICRO_BATCH rows that a batch can be cut into evenly. */
function fewestMicroBatches(batch: number): number {
  let count = Math.ceil(batch / MAX_MICRO_BATCH);
  while (batch % count !== 0) count++;
  return count;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
