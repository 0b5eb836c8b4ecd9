// An Architecture as the header of a GGUF file: the inverse of gguf-config.ts, in llama.cpp's keys.
// What llama.cpp would compute in another way is refused by name.

import { GatewayError } from '../errors.js';
import type { GgufEntry } from '../formats/gguf-writer.js';
import type { Architecture, RopeScaling } from './architecture.js';
import { yarnMscale } from './rope-config.js';
import { ropeFrequencies } from './rope.js';

type Metadata = Record<string, GgufEntry>;

/** llama.cpp has mistral as llama. */
export function ggufArchitecture({ family }: Architecture): 'llama' | 'qwen2' | 'qwen3' {
  return family === 'mistral' ? 'llama' : family;
}

/** Throws GatewayError unsupported_model. */
export function architectureMetadata(arch: Architecture, name: string): Metadata {
  const architecture = ggufArchitecture(arch);
  if (architecture === 'qwen2' && arch.numHeads * arch.headDim !== arch.hiddenSize)
    throw refuse(`heads of ${arch.headDim} in qwen2 of width ${arch.hiddenSize}`);
  const keys: Metadata = {
    vocab_size: u32(arch.vocabSize),
    context_length: u32(contextLength(arch)),
    embedding_length: u32(arch.hiddenSize),
    block_count: u32(arch.numLayers),
    feed_forward_length: u32(arch.intermediateSize),
    'attention.head_count': u32(arch.numHeads),
    'attention.head_count_kv': u32(arch.numKvHeads),
    'attention.key_length': u32(arch.headDim),
    'attention.value_length': u32(arch.headDim),
    'attention.layer_norm_rms_epsilon': f32(arch.rmsNormEps),
    'rope.dimension_count': u32(arch.headDim),
    'rope.freq_base': f32(arch.ropeTheta),
    ...(arch.ropeScaling === null ? {} : scalingKeys(arch.ropeScaling)),
  };
  const prefixed = Object.entries(keys).map(([key, entry]) => [`${architecture}.${key}`, entry] as const);
  return {
    'general.architecture': { type: 'string', value: architecture },
    'general.type': { type: 'string', value: 'model' },
    'general.name': { type: 'string', value: name },
    ...Object.fromEntries(prefixed),
  };
}

/**
 * The divisors of the rotary frequencies [headDim / 2], which are a tensor of their own; null where there are none.
 * Throws GatewayError unsupported_model for a family that llama.cpp reads none of.
 */
export function ropeDivisors(arch: Architecture): Float32Array | null {
  const { ropeScaling } = arch;
  if (ropeScaling?.type !== 'llama3' && ropeScaling?.type !== 'factors') return null;
  if (ggufArchitecture(arch) !== 'llama')
    throw refuse(`${ropeScaling.type} rotary scaling in ${arch.family}`);
  if (ropeScaling.type === 'factors') return Float32Array.from(ropeScaling.factors);
  const plain = ropeFrequencies({ ...arch, ropeScaling: null }, arch.contextLength);
  const scaled = ropeFrequencies(arch, arch.contextLength);
  return Float32Array.from(plain, (frequency, pair) => frequency / scaled[pair]!);
}

/** llama.cpp sees all keys in these architectures: it gets no longer context than the window, in which there is no difference. */
function contextLength({ contextLength: length, slidingWindow }: Architecture): number {
  return slidingWindow === null ? length : Math.min(length, slidingWindow);
}

function scalingKeys(scaling: RopeScaling): Metadata {
  const key = (name: string) => `rope.scaling.${name}`;
  switch (scaling.type) {
    case 'linear':
      return { [key('type')]: { type: 'string', value: 'linear' }, [key('factor')]: f32(scaling.factor) };
    case 'yarn':
      return {
        [key('type')]: { type: 'string', value: 'yarn' },
        [key('factor')]: f32(scaling.factor),
        [key('original_context_length')]: u32(scaling.originalContextLength),
        [key('yarn_beta_fast')]: f32(scaling.betaFast),
        [key('yarn_beta_slow')]: f32(scaling.betaSlow),
        [key('attn_factor')]: f32(scaling.attentionFactor / yarnMscale(scaling.factor, 1)),
      };
    case 'llama3':
    case 'factors':
      return {};
    case 'dynamic':
      throw refuse('dynamic rotary scaling');
  }
}

function refuse(what: string): GatewayError {
  return new GatewayError('unsupported_model', `GGUF has no words for ${what}; export it as safetensors`, {
    param: 'format',
  });
}

function u32(value: number): GgufEntry {
  return { type: 'u32', value };
}

function f32(value: number): GgufEntry {
  return { type: 'f32', value };
}
