// A checkpoint's config.json, in the spelling of transformers 4 or 5, as an Architecture.
// Keys that would change the computation in a way that the graph does not know are refused by name; other unknown keys are ignored.

import type { Architecture, Family } from './architecture.js';
import { checkArchitecture } from './architecture-check.js';
import { Fields } from './fields.js';
import { ropeFromConfig } from './rope-config.js';

/** The class of transformers for each family. */
export const FAMILIES: Readonly<Record<Family, string>> = {
  llama: 'LlamaForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
  mistral: 'MistralForCausalLM',
};

/** Keys of other models, each with the values under which it changes nothing (null always does). */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  hidden_act: ['silu', 'swish'],
  hidden_activation: ['silu', 'swish'],
  partial_rotary_factor: [1],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  query_pre_attn_scalar: [],
  attention_multiplier: [1],
  residual_multiplier: [1],
  embedding_multiplier: [1],
  logits_scaling: [1],
  logit_scale: [1],
  num_experts: [0],
  num_local_experts: [0],
  n_routed_experts: [0],
  no_rope_layers: [],
  rope_interleaved: [false],
  use_qk_norm: [false],
  qk_layernorm: [false],
  use_bidirectional_attention: [false],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  quantization_config: [],
  compression_config: [],
};

/**
 * The architecture that a config.json describes. `file` is its name, for messages.
 * Throws GatewayError unsupported_model naming what is not computed, invalid_file where a value has no sense.
 */
export function architectureFromConfig(config: unknown, file: string): Architecture {
  const fields = Fields.ofJson(file, config);
  const family = familyOf(fields);
  refuseUnsupported(fields);
  const hiddenSize = fields.count('hidden_size');
  const numHeads = fields.count('num_attention_heads');
  const contextLength = fields.count('max_position_embeddings');
  const numLayers = fields.count('num_hidden_layers');
  const attentionBias = family !== 'mistral' && family !== 'qwen2' && fields.flag('attention_bias', false);
  const arch: Architecture = {
    family,
    hiddenSize,
    numLayers,
    numHeads,
    numKvHeads: fields.count('num_key_value_heads', numHeads),
    headDim: fields.count('head_dim', family === 'qwen3' ? 128 : Math.floor(hiddenSize / numHeads)),
    intermediateSize: fields.count('intermediate_size'),
    vocabSize: fields.count('vocab_size'),
    contextLength,
    rmsNormEps: fields.positive('rms_norm_eps', 1e-6),
    ...ropeFromConfig(fields, contextLength),
    tiedHead: fields.flag('tie_word_embeddings', false),
    qkvBias: family === 'qwen2' || attentionBias,
    outputBias: attentionBias,
    mlpBias: family === 'llama' && fields.flag('mlp_bias', false),
    qkNorm: family === 'qwen3',
    slidingWindow: slidingWindowOf(fields, family, numLayers),
  };
  checkArchitecture(arch, file);
  return arch;
}

function familyOf(fields: Fields): Family {
  const type = fields.text('model_type');
  if (!Object.hasOwn(FAMILIES, type))
    throw fields.unsupported('model_type', Object.keys(FAMILIES).join(', '));
  const family = type as Family;
  const classes = fields.get('architectures');
  if (classes !== null && !(Array.isArray(classes) && classes.includes(FAMILIES[family])))
    throw fields.unsupported('architectures', FAMILIES[family]);
  return family;
}

function refuseUnsupported(fields: Fields): void {
  for (const [key, neutral] of Object.entries(NEUTRAL)) {
    const value = fields.get(key);
    if (value !== null && !neutral.includes(value))
      throw fields.unsupported(key, neutral.length === 0 ? 'none' : neutral.join(', '));
  }
}

/**
 * mistral always has its window, qwen only with `use_sliding_window`, llama never. All layers must agree: `layer_types` says which
 * layers have it, or for qwen without that list, those from `max_window_layers` on. The fallbacks are transformers' defaults.
 */
function slidingWindowOf(fields: Fields, family: Family, numLayers: number): number | null {
  if (family === 'llama') return null;
  if (family !== 'mistral' && !fields.flag('use_sliding_window', false)) return null;
  if (fields.has('sliding_window') && fields.get('sliding_window') === null) return null;
  const window = fields.count('sliding_window', 4096);
  const types = fields.get('layer_types');
  if (types !== null) {
    if (!Array.isArray(types) || types.length !== numLayers)
      throw fields.invalid('layer_types', `a list of ${numLayers} layer types`);
    if (types.every((type) => type === 'sliding_attention')) return window;
    if (types.every((type) => type === 'full_attention')) return null;
    throw fields.unsupported('layer_types', 'one and the same attention in all layers');
  }
  if (family === 'mistral') return window;
  const firstWindowed = fields.get('max_window_layers') === 0 ? 0 : fields.count('max_window_layers', 28);
  if (firstWindowed >= numLayers) return null;
  if (firstWindowed === 0) return window;
  throw fields.unsupported('max_window_layers', `0, or at least the number of layers (${numLayers})`);
}
