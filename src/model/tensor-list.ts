// The tensors that an Architecture consists of, under the names of the manifest, and those names as safetensors and GGUF spell them.

import { type Architecture, PROJECTIONS, projectionPath, projectionShape } from './architecture.js';

export interface TensorSpec {
  /** As in the manifest: `layers.0.self_attn.q_proj`, `layers.0.self_attn.q_proj.bias`, `embed_tokens`, `norm`. */
  readonly name: string;
  /** [rows, cols] of a matrix, [n] of a vector. */
  readonly shape: readonly number[];
}

/** Every tensor of the architecture, in the order of the computation. */
export function tensorList(arch: Architecture): readonly TensorSpec[] {
  const { hiddenSize, vocabSize } = arch;
  const list: TensorSpec[] = [{ name: 'embed_tokens', shape: [vocabSize, hiddenSize] }];
  for (let layer = 0; layer < arch.numLayers; layer++)
    for (const { name, shape } of layerTensors(arch)) list.push({ name: `layers.${layer}.${name}`, shape });
  list.push({ name: 'norm', shape: [hiddenSize] });
  if (!arch.tiedHead) list.push({ name: 'lm_head', shape: [vocabSize, hiddenSize] });
  return list;
}

function layerTensors(arch: Architecture): readonly TensorSpec[] {
  const list: TensorSpec[] = [
    { name: 'input_layernorm', shape: [arch.hiddenSize] },
    { name: 'post_attention_layernorm', shape: [arch.hiddenSize] },
  ];
  if (arch.qkNorm)
    list.push(
      { name: 'self_attn.q_norm', shape: [arch.headDim] },
      { name: 'self_attn.k_norm', shape: [arch.headDim] },
    );
  const biased = {
    q_proj: arch.qkvBias,
    k_proj: arch.qkvBias,
    v_proj: arch.qkvBias,
    o_proj: arch.outputBias,
    gate_proj: arch.mlpBias,
    up_proj: arch.mlpBias,
    down_proj: arch.mlpBias,
  };
  for (const projection of PROJECTIONS) {
    const name = projectionPath(projection);
    const shape = projectionShape(arch, projection);
    list.push({ name, shape });
    if (biased[projection]) list.push({ name: `${name}.bias`, shape: [shape[0]] });
  }
  return list;
}

/** `layers.0.self_attn.q_proj` -> `model.layers.0.self_attn.q_proj.weight`. */
export function safetensorsName(name: string): string {
  const prefix = name === 'lm_head' ? '' : 'model.';
  return `${prefix}${name}${name.endsWith('.bias') ? '' : '.weight'}`;
}

const GGUF_NAMES: Readonly<Record<string, string>> = {
  embed_tokens: 'token_embd',
  norm: 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};

/** `layers.0.self_attn.q_proj` -> `blk.0.attn_q.weight`. */
export function ggufName(name: string): string {
  const [, layer, path, bias] = /^(?:layers\.(\d+)\.)?(.+?)(\.bias)?$/.exec(name)!;
  return `${layer === undefined ? '' : `blk.${layer}.`}${GGUF_NAMES[path!]!}${bias ?? '.weight'}`;
}
