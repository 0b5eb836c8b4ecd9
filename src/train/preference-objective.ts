// DPO as an objective: the units are pairs, and a batch's segments are chosen, rejected, chosen, rejected, ... The reference is the model
// without the method's additions.

import { assert } from '../errors.js';
import type { BatchLoss, Objective } from './objective.js';
import {
  checkPreferenceOptions,
  type PairLoss,
  pairLoss,
  type PreferenceOptions,
  sumRewards,
} from './preference-loss.js';
import { type SupervisedSegments, supervisedSegments } from './supervision.js';

/** Throws GatewayError invalid_value for options that do not go together. */
export function createPreferenceObjective(options: PreferenceOptions): Objective {
  checkPreferenceOptions(options);
  return {
    countUnits(batch) {
      const segments = supervisedSegments(batch);
      return segments.segmentOf.length === 0 ? 0 : countPairs(segments);
    },
    async accumulate(model, batch, windowUnits, seed) {
      const segments = supervisedSegments(batch);
      const reference = await model.logprobs(batch, { reference: true });
      const logprobs = await model.accumulate(
        batch,
        (policy) => {
          const pairs = pairLosses(segments, policy, reference, options);
          return tokenWeights(segments, pairs, windowUnits);
        },
        seed,
      );
      return batchLoss(pairLosses(segments, logprobs, reference, options), logprobs);
    },
    async evaluate(model, batch) {
      const reference = await model.logprobs(batch, { reference: true, asServed: true });
      const logprobs = await model.logprobs(batch, { asServed: true });
      return batchLoss(pairLosses(supervisedSegments(batch), logprobs, reference, options), logprobs);
    },
  };
}

function countPairs({ numSegments }: SupervisedSegments): number {
  assert(numSegments % 2 === 0, `a batch of pairs has an even number of segments, this one ${numSegments}`);
  return numSegments / 2;
}

function pairLosses(
  segments: SupervisedSegments,
  policy: Float32Array,
  reference: Float32Array,
  options: PreferenceOptions,
): readonly PairLoss[] {
  const policySums = new Float64Array(segments.numSegments);
  const referenceSums = new Float64Array(segments.numSegments);
  const numTokens = new Int32Array(segments.numSegments);
  for (const [at, segment] of segments.segmentOf.entries()) {
    policySums[segment]! += policy[at]!;
    referenceSums[segment]! += reference[at]!;
    numTokens[segment]! += 1;
  }
  const answer = (segment: number) => ({
    policy: policySums[segment]!,
    reference: referenceSums[segment]!,
    numTokens: numTokens[segment]!,
  });
  return Array.from({ length: countPairs(segments) }, (_, pair) =>
    pairLoss(answer(2 * pair), answer(2 * pair + 1), options),
  );
}

function tokenWeights(
  { segmentOf }: SupervisedSegments,
  pairs: readonly PairLoss[],
  windowUnits: number,
): Float32Array {
  return Float32Array.from(segmentOf, (segment) => {
    const pair = pairs[segment >> 1]!;
    return (segment % 2 === 0 ? pair.chosenWeight : pair.rejectedWeight) / windowUnits;
  });
}

function batchLoss(pairs: readonly PairLoss[], logprobs: Float32Array): BatchLoss {
  const lossSum = pairs.reduce((sum, { loss }) => sum + loss, 0);
  const samples = pairs.map(({ loss }) => ({ lossSum: loss, numUnits: 1 }));
  return { lossSum, numUnits: pairs.length, samples, preference: sumRewards(pairs), logprobs };
}
