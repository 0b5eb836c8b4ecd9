// The architecture of a small llama, for tests to change what they are about.
import type { Architecture } from '../../src/model/architecture.js';

/** By default that of the fixture llama-tied. */
export function smallArchitecture(changes: Partial<Architecture> = {}): Architecture {
  return {
    family: 'llama',
    hiddenSize: 64,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    intermediateSize: 128,
    vocabSize: 320,
    contextLength: 256,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    ropeScaling: null,
    tiedHead: true,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    slidingWindow: null,
    ...changes,
  };
}
