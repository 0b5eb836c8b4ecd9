// Sampling parameters of a caller that wants the likeliest tokens and nothing else.

import type { SamplingParams } from '../engine/types.js';

export function greedySampling(maxTokens: number): SamplingParams {
  return {
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    frequencyPenalty: 0,
    presencePenalty: 0,
    repetitionPenalty: 1,
    logitBias: new Map(),
    seed: 0,
    maxTokens,
    minTokens: 0,
    ignoreEos: false,
    stopTokenIds: [],
    logprobs: null,
  };
}
