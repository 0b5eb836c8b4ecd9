// What a run minimizes: a mean over units, be they supervised tokens or pairs, of a whole accumulation window. The unit count of the
// window is known before its first micro-batch runs, so every micro-batch is weighed rightly, those of a partial window too.

import type { TrainingBatch } from '../data/types.js';
import type { TrainingOptions } from './options.js';
import type { PreferenceSums } from './preference-loss.js';
import { createPreferenceObjective } from './preference-objective.js';
import { countSupervised, supervisedSegments } from './supervision.js';
import type { TrainingModel } from './types.js';

/** An answer with its tokens, or a pair: what was drawn from the data as a whole. */
export interface SampleLoss {
  readonly lossSum: number;
  readonly numUnits: number;
}

/** Of one micro-batch. */
export interface BatchLoss {
  /** Over the units; nats. */
  readonly lossSum: number;
  readonly numUnits: number;
  readonly samples: readonly SampleLoss[];
  readonly preference: PreferenceSums | null;
  /** Of the supervised tokens. */
  readonly logprobs: Float32Array;
}

export interface Objective {
  /** Tokens or pairs of a batch that count; 0 leaves nothing to learn. */
  countUnits(batch: TrainingBatch): number;
  /** Adds the gradient of lossSum / windowUnits. `seed` decides dropout; null is none. */
  accumulate(
    model: TrainingModel,
    batch: TrainingBatch,
    windowUnits: number,
    seed: number | null,
  ): Promise<BatchLoss>;
  /** The loss alone, without dropout, over the base as it serves. */
  evaluate(model: TrainingModel, batch: TrainingBatch): Promise<BatchLoss>;
}

/** Throws GatewayError invalid_value for options that do not go together. */
export function createObjective(options: Pick<TrainingOptions, 'stage' | 'dpo'>): Objective {
  return options.stage === 'dpo' ? createPreferenceObjective(options.dpo) : supervisedObjective;
}

/** Cross-entropy: the mean over supervised tokens of -log p. */
const supervisedObjective: Objective = {
  countUnits: countSupervised,
  async accumulate(model, batch, windowUnits, seed) {
    const each = (logprobs: Float32Array) => new Float32Array(logprobs.length).fill(-1 / windowUnits);
    const weigh = Object.assign(each, { isPointwise: true });
    return supervisedLoss(batch, await model.accumulate(batch, weigh, seed));
  },
  async evaluate(model, batch) {
    return supervisedLoss(batch, await model.logprobs(batch, { asServed: true }));
  },
};

function supervisedLoss(batch: TrainingBatch, logprobs: Float32Array): BatchLoss {
  const { numSegments, segmentOf } = supervisedSegments(batch);
  const samples = Array.from({ length: numSegments }, () => ({ lossSum: 0, numUnits: 0 }));
  let lossSum = 0;
  for (const [at, logprob] of logprobs.entries()) {
    const sample = samples[segmentOf[at]!]!;
    sample.lossSum -= logprob;
    sample.numUnits += 1;
    lossSum -= logprob;
  }
  const learned = samples.filter(({ numUnits }) => numUnits > 0);
  return { lossSum, numUnits: logprobs.length, samples: learned, preference: null, logprobs };
}
