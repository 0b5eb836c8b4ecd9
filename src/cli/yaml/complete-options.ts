// The last choices of a run: those that the base's window or the number of examples and steps decide.
import { GatewayError } from '../../errors.js';
import type { Architecture, RopeScaling } from '../../model/architecture.js';
import { chosenScaling, originalWindow } from '../../model/rope-choice.js';
import type { TrainingOptions } from '../../train/options.js';
import type { TrainingConfig } from './training-config.js';

export interface RunFacts {
  readonly architecture: Pick<Architecture, 'contextLength' | 'ropeScaling'>;
  /** Of the training data, before any is held out. */
  readonly numExamples: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
}

/** Throws GatewayError invalid_config where cutoff_len is longer than the base reads, or more is held out than there is. */
export function completeOptions(config: TrainingConfig, facts: RunFacts): TrainingOptions {
  const { warmup, validation } = config;
  return {
    ...config.options,
    ropeScaling: ropeScalingOf(config, facts.architecture),
    // The ratio's product with the steps is rounded up: half a step less keeps it from the next whole number.
    warmupRatio:
      'share' in warmup ? warmup.share : Math.min(1, (warmup.count - 0.5) / Math.max(1, facts.totalSteps)),
    validationShare: 'share' in validation ? validation.share : shareOf(validation.count, facts.numExamples),
  };
}

function shareOf(count: number, numExamples: number): number {
  if (count < numExamples) return count / numExamples;
  throw new GatewayError(
    'invalid_config',
    `Expected \`val_size\` to be below the number of examples, ${numExamples}, got ${count}`,
    { param: 'val_size' },
  );
}

/** The factor is the next whole number of windows that holds cutoff_len, as in LLaMA-Factory. */
function ropeScalingOf(
  { ropeScaling: type, options: { cutoffLength } }: TrainingConfig,
  architecture: RunFacts['architecture'],
): RopeScaling | null {
  if (type === null) {
    if (cutoffLength <= architecture.contextLength) return null;
    throw new GatewayError(
      'invalid_config',
      `Expected \`cutoff_len\` to be at most ${architecture.contextLength}, what the base was made for, got ${cutoffLength}; \`rope_scaling: yarn\` trains beyond`,
      { param: 'cutoff_len' },
    );
  }
  const window = originalWindow(architecture);
  if (cutoffLength <= window) return null;
  return chosenScaling(architecture, { type, factor: Math.ceil(cutoffLength / window) });
}
