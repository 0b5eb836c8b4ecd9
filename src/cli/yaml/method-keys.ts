// Keys of a training file: what the methods, the 4-bit base and the preference loss are told, and what computes.
import type { SupportedKey } from './supported-key.js';

const LORA = ['lora'];
const VIRTUAL = ['prefix_tuning', 'prompt_tuning', 'p_tuning'];

export const METHOD_KEYS = {
  lora_rank: { kind: 'integer', min: 1, max: 1024, fallback: 8, methods: LORA, help: 'rank' },
  lora_alpha: {
    kind: 'number',
    above: 0,
    fallback: null,
    fallbackWords: 'twice the rank',
    methods: LORA,
    help: 'the update is scaled by it over the rank',
  },
  lora_dropout: { kind: 'number', min: 0, below: 1, fallback: 0, methods: LORA, help: "on LoRA's inputs" },
  lora_target: {
    kind: 'names',
    fallback: ['all'],
    methods: ['lora', 'bitfit'],
    help: '`all`, or some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj',
  },
  loraplus_lr_ratio: {
    kind: 'number',
    above: 0,
    fallback: null,
    methods: LORA,
    help: "LoRA+: B's learning rate over A's",
  },
  use_rslora: {
    kind: 'switch',
    fallback: false,
    methods: LORA,
    help: 'scales by alpha over the square root of the rank',
  },

  quantization_bit: {
    kind: 'choice',
    choices: ['4'],
    refused: Object.fromEntries(
      ['8', '3', '2'].map((bits) => [
        bits,
        'so many bits are not computed; the nearest is `quantization_bit: 4`',
      ]),
    ),
    fallback: null,
    help: 'hold the frozen base in 4 bits (QLoRA)',
  },
  quantization_type: {
    kind: 'choice',
    choices: ['nf4', 'int4'],
    refused: { fp4: 'it is not computed; the nearest is `quantization_type: nf4`' },
    fallback: 'nf4',
    help: '4-bit NormalFloat, or `int4`: the very codes that `serve` computes with (not in LLaMA-Factory)',
  },
  quantization_method: {
    kind: 'choice',
    choices: ['bnb', 'bitsandbytes'],
    refused: Object.fromEntries(
      ['hqq', 'eetq', 'gptq', 'awq', 'aqlm'].map((name) => [
        name,
        'it is not computed; the nearest is `quantization_method: bnb`, which is NF4',
      ]),
    ),
    fallback: 'bnb',
    help: 'NF4 as in bitsandbytes; nothing of it has to be installed',
  },
  double_quantization: {
    kind: 'choice',
    choices: ['true'],
    refused: {
      false: 'NF4 always has its scales quantized as well; leave the key out',
      no: 'NF4 always has its scales quantized as well; leave the key out',
    },
    fallback: 'true',
    help: "NF4's scales in 8 bits: 4.127 bits a parameter",
  },

  pref_beta: { kind: 'number', above: 0, fallback: 0.1, help: "DPO's beta" },
  pref_loss: {
    kind: 'choice',
    choices: ['sigmoid', 'hinge', 'ipo'],
    refused: Object.fromEntries(
      ['orpo', 'simpo', 'kto_pair'].map((name) => [
        name,
        'it is not computed; the nearest is `pref_loss: sigmoid`, which is DPO',
      ]),
    ),
    fallback: 'sigmoid',
    help: 'of `stage: dpo`',
  },
  dpo_label_smoothing: { kind: 'number', min: 0, below: 0.5, fallback: 0, help: 'of `pref_loss: sigmoid`' },

  num_virtual_tokens: {
    kind: 'integer',
    min: 1,
    max: 1024,
    fallback: 16,
    methods: VIRTUAL,
    help: 'trained positions in front of the prompt',
  },
  prefix_projection: {
    kind: 'switch',
    fallback: false,
    methods: ['prefix_tuning'],
    help: 'keys and values come from a network of `encoder_hidden_size` units that is trained and thrown away',
  },
  encoder_hidden_size: {
    kind: 'integer',
    min: 1,
    max: 65_536,
    fallback: 512,
    methods: ['prefix_tuning', 'p_tuning'],
    help: "units of the prompt encoder or the prefix's projection",
  },
  encoder_reparameterization_type: {
    kind: 'choice',
    choices: ['mlp', 'lstm'],
    fallback: 'mlp',
    methods: ['p_tuning'],
    help: 'the prompt encoder',
  },
  prompt_tuning_init_text: {
    kind: 'text',
    fallback: null,
    fallbackWords: 'random',
    methods: ['prompt_tuning'],
    help: "text whose tokens' embeddings the virtual tokens begin as",
  },
  bottleneck_size: {
    kind: 'integer',
    min: 1,
    max: 65_536,
    fallback: 64,
    methods: ['bottleneck'],
    help: "units of each block's two bottlenecks",
  },
  bf16: {
    kind: 'switch',
    fallback: false,
    help: 'products with the frozen base in bfloat16 where the processor has them (AVX512-BF16): faster, less memory',
  },
  backend: {
    kind: 'choice',
    choices: ['onnx', 'tfjs'],
    fallback: 'onnx',
    help: 'what computes: ONNX Runtime, or TensorFlow.js',
  },
} as const satisfies Readonly<Record<string, SupportedKey>>;
