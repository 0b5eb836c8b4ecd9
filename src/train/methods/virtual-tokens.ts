// What prompt tuning and P-tuning have in common: an encoder gives embeddings [V, H] of virtual tokens that are put before the prompt, and
// PEFT stores those, not the encoder.

import type { Encoder } from './encoder.js';
import { type MethodBase, peftFiles } from './peft-files.js';
import { NO_ADDITIONS } from '../graphs/block-inputs.js';
import type { MethodInputs, TrainingMethod } from '../types.js';

export function virtualTokensMethod(
  base: MethodBase,
  encoder: Encoder,
  numVirtualTokens: number,
  kind: {
    readonly name: 'prompt_tuning' | 'p_tuning';
    readonly peftType: 'PROMPT_TUNING' | 'P_TUNING';
    /** Keys of the configuration beside the sizes. */
    readonly config: Readonly<Record<string, unknown>>;
  },
): TrainingMethod {
  const { numLayers, numHeads, hiddenSize } = base.architecture;
  const noBlocks = Array.from({ length: numLayers }, () => new Map<string, Float32Array>());
  return {
    name: kind.name,
    additions: NO_ADDITIONS,
    parameters: encoder.parameters,
    inputs: async (): Promise<MethodInputs> => ({
      blocks: noBlocks,
      virtualTokens: await encoder.encode(),
      ends: null,
    }),
    backward: ({ virtualTokens }) => encoder.backward(virtualTokens!),
    async files() {
      const config = {
        ...kind.config,
        num_virtual_tokens: numVirtualTokens,
        token_dim: hiddenSize,
        num_transformer_submodules: 1,
        num_attention_heads: numHeads,
        num_layers: numLayers,
      };
      const embeddings = { shape: [numVirtualTokens, hiddenSize], data: await encoder.encode() };
      return peftFiles(base, kind.peftType, config, new Map([['prompt_embeddings', embeddings]]));
    },
  };
}

/** PEFT's name of the embedding that every prompt encoder begins with. */
export const EMBEDDING = 'prompt_encoder.embedding.weight';
