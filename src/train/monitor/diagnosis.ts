// Tells from what a run reports what is wrong with it, and what to change: a pure state machine. Each fault is told once a run.
// Thresholds follow Axolotl's training-stability guide where it has them.

import type { TrainingOptions } from '../options.js';
import { allLabelsMasked, endNotLearned, nonFinite } from './data-rules.js';
import { oscillatingEvaluations, overfitting } from './evaluation-rules.js';
import {
  divergence,
  figure,
  learningRateHigh,
  learningRateLow,
  oscillatingSteps,
  type Rule,
  underfitting,
  vanishingGradients,
} from './loss-rules.js';
import { type Observation, remember, type RunHistory } from './run-history.js';

export type Fault =
  | 'non_finite'
  | 'all_labels_masked'
  | 'eos_not_learned'
  | 'divergence'
  | 'learning_rate_high'
  | 'vanishing_gradients'
  | 'oscillation'
  | 'overfitting'
  | 'underfitting'
  | 'learning_rate_low';

export interface Finding {
  readonly fault: Fault;
  readonly message: string;
  readonly prescription: string;
}

interface FaultEntry {
  readonly fault: Fault;
  readonly rules: readonly Rule[];
  readonly prescribe: (options: TrainingOptions) => string;
}

const FAULTS: readonly FaultEntry[] = [
  {
    fault: 'non_finite',
    rules: [nonFinite],
    prescribe: (options) =>
      `go on from the last checkpoint with ${learningRate(options, 1 / 3)}${options.maxGradNorm === 0 ? ' and maxGradNorm 1' : ''}; ` +
      'if it comes at the same step again, look for a broken example there',
  },
  {
    fault: 'all_labels_masked',
    rules: [allLabelsMasked],
    prescribe: (options) =>
      `check that examples have an assistant's answer with weight 1, and that cutoffLength ${options.cutoffLength} leaves room for it`,
  },
  {
    fault: 'eos_not_learned',
    rules: [endNotLearned],
    prescribe: () =>
      'check that the chat template ends an answer with the end token, that it is supervised (padding by another token, never by it), and that answers are not cut off by cutoffLength',
  },
  {
    fault: 'divergence',
    rules: [divergence],
    prescribe: (options) =>
      `go back to the best checkpoint, with ${learningRate(options, 1 / 3)}, a warmupRatio of 0.05 to 0.1 and a maxGradNorm of at most 1`,
  },
  {
    fault: 'learning_rate_high',
    rules: [learningRateHigh],
    prescribe: (options) => `${learningRate(options, 1 / 3)}, or a longer warm-up`,
  },
  {
    fault: 'vanishing_gradients',
    rules: [vanishingGradients],
    prescribe: () =>
      'check that what is trained takes part in the model: targets, an initialization that is not saturated, an adapter whose two factors are not both zero',
  },
  {
    fault: 'oscillation',
    rules: [oscillatingSteps, oscillatingEvaluations],
    prescribe: (options) =>
      `${learningRate(options, 1 / 2)}, or larger steps' batches: accumulation from ${options.accumulation} to ${options.accumulation * 4}`,
  },
  {
    fault: 'overfitting',
    rules: [overfitting],
    prescribe: (options) =>
      `use the best checkpoint; then fewer epochs than ${options.epochs}, more data, weightDecay 0.01 to 0.1${capacity(options, 'smaller')}`,
  },
  {
    fault: 'underfitting',
    rules: [underfitting],
    prescribe: (options) =>
      `more of the model must be trained, or for longer: more epochs than ${options.epochs}${capacity(options, 'larger')}; or the data cannot be predicted better`,
  },
  {
    fault: 'learning_rate_low',
    rules: [learningRateLow],
    prescribe: (options) => `${learningRate(options, 5)}, or more steps`,
  },
];

/** The history after what was seen, and the faults that are new. Works on: the same calls give the same answers. */
export function diagnose(
  before: RunHistory,
  seen: Observation,
  options: TrainingOptions,
): { readonly history: RunHistory; readonly findings: readonly Finding[] } {
  const history = remember(before, seen);
  const findings: Finding[] = [];
  for (const { fault, rules, prescribe } of FAULTS) {
    if (history.reported.includes(fault)) continue;
    const messages = rules.flatMap((rule) => rule(history, options.stage) ?? []);
    if (messages.length > 0)
      findings.push({ fault, message: messages.join('; '), prescription: prescribe(options) });
  }
  const reported = [...history.reported, ...findings.map(({ fault }) => fault)];
  return { history: { ...history, reported }, findings };
}

function learningRate(options: TrainingOptions, factor: number): string {
  return `learningRate from ${figure(options.learningRate)} to ${figure(options.learningRate * factor)}`;
}

/** What of the method holds more or less, as the end of a list. */
function capacity({ method }: TrainingOptions, direction: 'larger' | 'smaller'): string {
  switch (method.name) {
    case 'lora':
      return direction === 'larger'
        ? `, a rank above ${method.rank}, all projections as targets`
        : `, a rank below ${method.rank}, a dropout of 0.05`;
    case 'prefix_tuning':
    case 'prompt_tuning':
    case 'p_tuning':
      return `, ${direction === 'larger' ? 'more' : 'fewer'} virtual tokens than ${method.numVirtualTokens}`;
    case 'bottleneck':
      return `, a size ${direction === 'larger' ? 'above' : 'below'} ${method.size}`;
    case 'bitfit':
      return direction === 'larger' ? ', or lora, which can change more than biases' : '';
    case 'full':
      return direction === 'larger' ? '' : ', or lora, which changes less';
  }
}
