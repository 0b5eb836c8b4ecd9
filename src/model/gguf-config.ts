// A GGUF header as an Architecture: the keys of llama.cpp for the architectures llama (mistral too), qwen2 and qwen3.
// Switches that GGUF has no key for (biases, a tied head) follow from which tensors are there.

import type { GgufTensor } from '../formats/gguf.js';
import type { Architecture, RopeScaling } from './architecture.js';
import { checkArchitecture } from './architecture-check.js';
import { Fields } from './fields.js';
import { yarnMscale } from './rope-config.js';

const FAMILIES = ['llama', 'qwen2', 'qwen3'] as const;
/** The tensor with a factor for each rotary frequency, which llama3 scaling becomes in GGUF. */
export const ROPE_FACTORS_TENSOR = 'rope_freqs.weight';

/**
 * `ropeFactors` is the content of the tensor rope_freqs.weight, null where there is none; `file` is for messages.
 * Throws GatewayError unsupported_model naming what is not computed, invalid_file where a value has no sense.
 */
export function architectureFromGguf(
  metadata: ReadonlyMap<string, unknown>,
  tensors: ReadonlyMap<string, Pick<GgufTensor, 'shape'>>,
  file: string,
  ropeFactors: Float32Array | null = null,
): Architecture {
  const general = new Fields(file, metadata);
  const family = FAMILIES.find((name) => name === general.text('general.architecture'));
  if (family === undefined) throw general.unsupported('general.architecture', FAMILIES.join(', '));
  const fields = familyFields(file, metadata, family);
  const hiddenSize = fields.count('embedding_length');
  const numHeads = fields.count('attention.head_count');
  const headDim = fields.count('attention.key_length', Math.floor(hiddenSize / numHeads));
  const contextLength = fields.count('context_length');
  refuseUnsupported(fields, headDim);
  const arch: Architecture = {
    family,
    hiddenSize,
    numLayers: fields.count('block_count'),
    numHeads,
    numKvHeads: fields.count('attention.head_count_kv', numHeads),
    headDim,
    intermediateSize: fields.count('feed_forward_length'),
    vocabSize: tensors.get('token_embd.weight')?.shape[0] ?? fields.count('vocab_size'),
    contextLength,
    rmsNormEps: fields.positive('attention.layer_norm_rms_epsilon'),
    ropeTheta: fields.positive('rope.freq_base', 10000),
    ropeScaling: ropeScalingOf(fields, contextLength, ropeFactors),
    tiedHead: !tensors.has('output.weight'),
    qkvBias: tensors.has('blk.0.attn_q.bias'),
    outputBias: tensors.has('blk.0.attn_output.bias'),
    mlpBias: tensors.has('blk.0.ffn_gate.bias'),
    qkNorm: tensors.has('blk.0.attn_q_norm.weight'),
    slidingWindow:
      fields.get('attention.sliding_window') === null ? null : fields.count('attention.sliding_window'),
  };
  checkArchitecture(arch, file);
  return arch;
}

/** The keys below `FAMILY.`; per-layer lists of one and the same value count as that value. */
function familyFields(file: string, metadata: ReadonlyMap<string, unknown>, family: string): Fields {
  const values = new Map<string, unknown>();
  for (const [key, value] of metadata) {
    if (!key.startsWith(`${family}.`)) continue;
    const same = Array.isArray(value) && value.length > 0 && value.every((item) => item === value[0]);
    values.set(key.slice(family.length + 1), same ? (value[0] as unknown) : value);
  }
  return new Fields(file, values);
}

function refuseUnsupported(fields: Fields, headDim: number): void {
  const neutral: Readonly<Record<string, readonly unknown[]>> = {
    expert_count: [0],
    expert_used_count: [0],
    'attention.value_length': [headDim],
    'rope.dimension_count': [headDim],
    'attention.causal': [true],
    'attention.scale': [0, Math.fround(1 / Math.sqrt(headDim))],
    attn_logit_softcapping: [0],
    final_logit_softcapping: [0],
    logit_scale: [0, 1],
    embedding_scale: [0, 1],
    residual_scale: [0, 1],
    'rope.scaling.yarn_log_multiplier': [0],
    'rope.scaling.yarn_ext_factor': [1],
    'attention.sliding_window_pattern': [],
    use_parallel_residual: [false],
  };
  for (const [key, accepted] of Object.entries(neutral)) {
    const value = fields.get(key);
    if (value !== null && !accepted.includes(value))
      throw fields.unsupported(key, accepted.length === 0 ? 'none' : accepted.join(', '));
  }
}

function ropeScalingOf(
  fields: Fields,
  contextLength: number,
  ropeFactors: Float32Array | null,
): RopeScaling | null {
  const key = (name: string) => `rope.scaling.${name}`;
  const hasFactor = fields.get(key('factor')) !== null && fields.get(key('factor')) !== 0;
  const factor = hasFactor ? fields.positive(key('factor')) : fields.positive('rope.scale_linear', 1);
  const type = fields.text(key('type'), 'linear'); // llama.cpp's default, with factor 1
  if (ropeFactors !== null) {
    if (type !== 'none' && factor !== 1)
      throw fields.unsupported(key('factor'), `1 beside ${ROPE_FACTORS_TENSOR}`);
    return { type: 'factors', factors: Array.from(ropeFactors) };
  }
  if (type === 'none' || (type === 'linear' && factor === 1)) return null;
  if (type === 'linear') return { type, factor };
  if (type !== 'yarn') throw fields.unsupported(key('type'), 'none, linear, yarn');
  return {
    type,
    factor,
    originalContextLength: fields.count(key('original_context_length'), contextLength),
    betaFast: fields.positive(key('yarn_beta_fast'), 32),
    betaSlow: fields.positive(key('yarn_beta_slow'), 1),
    attentionFactor: yarnMscale(factor, 1) * fields.positive(key('attn_factor'), 1),
  };
}
