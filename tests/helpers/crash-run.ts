// The run that training-crash-child.ts makes, and that its test makes unbroken.
import { chains, sequenceSource } from './token-data.js';
import { twoLayerModel } from './token-models.js';
import type { RunParts } from './training-runs.js';

export function crashRun(): RunParts {
  const data = chains({ vocabSize: 16, numSequences: 22, length: 10 });
  const heldOut = chains({ vocabSize: 16, numSequences: 8, length: 10, seed: 2 });
  return {
    tokenModel: twoLayerModel(16, { hidden: 6, dropout: 0.2 }),
    batches: sequenceSource(data, { batchSize: 2 }),
    evalBatches: sequenceSource(heldOut, { batchSize: 4, seed: null }),
    options: {
      accumulation: 3,
      epochs: 3,
      learningRate: 0.05,
      evalSteps: 4,
      saveSteps: 2,
      warmupRatio: 0.1,
      keepCheckpoints: 1,
      earlyStoppingPatience: 2,
    },
  };
}
