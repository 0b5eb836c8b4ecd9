// An Architecture as a checkpoint's config.json: the inverse of config.ts. Written in the spelling that transformers 4 and 5, and other
// programs that read such files, understand.

import { isDeepStrictEqual } from 'node:util';
import { GatewayError } from '../errors.js';
import type { Architecture, RopeScaling } from './architecture.js';
import { architectureFromConfig, FAMILIES } from './config.js';

export interface SpecialTokenIds {
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/**
 * The file's content; weights are said to be f32. Throws GatewayError unsupported_model where config.json has no words for the
 * architecture (frequency factors of a GGUF file).
 */
export function configFromArchitecture(arch: Architecture, tokens: SpecialTokenIds): object {
  const config = {
    architectures: [FAMILIES[arch.family]],
    model_type: arch.family,
    hidden_size: arch.hiddenSize,
    num_hidden_layers: arch.numLayers,
    num_attention_heads: arch.numHeads,
    num_key_value_heads: arch.numKvHeads,
    head_dim: arch.headDim,
    intermediate_size: arch.intermediateSize,
    vocab_size: arch.vocabSize,
    // transformers scales dynamic rotations relative to max_position_embeddings.
    max_position_embeddings:
      arch.ropeScaling?.type === 'dynamic' ? arch.ropeScaling.originalContextLength : arch.contextLength,
    rms_norm_eps: arch.rmsNormEps,
    rope_theta: arch.ropeTheta,
    rope_scaling: arch.ropeScaling === null ? null : ropeScaling(arch.ropeScaling),
    tie_word_embeddings: arch.tiedHead,
    hidden_act: 'silu',
    torch_dtype: 'float32',
    bos_token_id: tokens.bosTokenId,
    eos_token_id: tokens.eosTokenIds.length === 1 ? tokens.eosTokenIds[0] : tokens.eosTokenIds,
    ...familyKeys(arch),
  };
  checkSame(arch, architectureFromConfig(config, 'config.json'));
  return config;
}

function familyKeys(arch: Architecture): object {
  switch (arch.family) {
    case 'llama':
      return { attention_bias: arch.qkvBias, mlp_bias: arch.mlpBias };
    case 'mistral':
      return { sliding_window: arch.slidingWindow };
    case 'qwen2':
      return windowKeys(arch);
    case 'qwen3':
      return { attention_bias: arch.qkvBias, ...windowKeys(arch) };
  }
}

function windowKeys({ slidingWindow, numLayers }: Architecture): object {
  const isWindowed = slidingWindow !== null;
  return {
    use_sliding_window: isWindowed,
    sliding_window: slidingWindow,
    max_window_layers: isWindowed ? 0 : numLayers,
  };
}

function ropeScaling(scaling: RopeScaling): object | null {
  switch (scaling.type) {
    case 'linear':
    case 'dynamic':
      return { rope_type: scaling.type, factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalContextLength,
      };
    case 'yarn':
      return {
        rope_type: 'yarn',
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalContextLength,
        beta_fast: scaling.betaFast,
        beta_slow: scaling.betaSlow,
        attention_factor: scaling.attentionFactor,
      };
    case 'factors':
      return null;
  }
}

/** Dynamic scaling reaches beyond the length that it is relative to, which is all that the file can say. */
function checkSame(wanted: Architecture, written: Architecture): void {
  const comparable =
    wanted.ropeScaling?.type === 'dynamic' ? { ...wanted, contextLength: written.contextLength } : wanted;
  const key = Object.keys(wanted).find(
    (name) => !isDeepStrictEqual(comparable[name as keyof Architecture], written[name as keyof Architecture]),
  );
  if (key === undefined) return;
  const value = JSON.stringify(wanted[key as keyof Architecture]).slice(0, 80);
  throw new GatewayError(
    'unsupported_model',
    `A config.json of the ${wanted.family} family cannot say that \`${key}\` is ${value}; train an adapter of this base instead`,
    { param: key },
  );
}
