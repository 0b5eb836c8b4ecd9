// Prompt tuning (Lester et al., arXiv 2104.08691): the embeddings of virtual tokens are trained, nothing else.

import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import { normal } from '../random-numbers.js';
import type { TrainingMethod } from '../types.js';
import { tableEncoder } from './encoder.js';
import type { MethodBase } from './peft-files.js';
import { EMBEDDING, virtualTokensMethod } from './virtual-tokens.js';

export type PromptTuningOptions = MethodOptions & { readonly name: 'prompt_tuning' };

/** As large as the embeddings of the models that are served; PEFT draws from N(0, 1), which is far from any token. */
const DEVIATION = 0.02;

/**
 * `initial` are the embeddings [n, H] of the text to begin with, repeated or cut to the number of virtual tokens as in PEFT; null begins
 * with random ones.
 */
export function createPromptTuningMethod(
  base: MethodBase,
  { numVirtualTokens }: PromptTuningOptions,
  seed: number,
  initial: Float32Array | null,
): TrainingMethod {
  const size = numVirtualTokens * base.architecture.hiddenSize;
  const values =
    initial === null
      ? normal(size, DEVIATION, seed)
      : Float32Array.from({ length: size }, (_, i) => initial[i % initial.length]!);
  const table = createParameter(EMBEDDING, [numVirtualTokens, base.architecture.hiddenSize], values);
  return virtualTokensMethod(base, tableEncoder(table), numVirtualTokens, {
    name: 'prompt_tuning',
    peftType: 'PROMPT_TUNING',
    config: { prompt_tuning_init: 'RANDOM' },
  });
}
