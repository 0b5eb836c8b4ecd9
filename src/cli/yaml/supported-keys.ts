// The keys of a training file that are honoured: LLaMA-Factory's, with its defaults, and those of methods that it does not have.
// One table gives the types, the checks and the documentation.
import type { ValueKind } from './key-value.js';

export type SupportedKey = ValueKind & {
  readonly help: string;
  /** The default in words, where it is no fixed value. */
  readonly fallbackWords?: string;
  /** The key must be given. */
  readonly required?: true;
  /** The value of `finetuning_type` under which alone it is read. */
  readonly methods?: readonly string[];
};

const REWARD = 'needs a reward model; `stage: dpo` learns from the same kind of preferences without one';
const LORA = ['lora'];
const VIRTUAL = ['prefix_tuning', 'prompt_tuning', 'p_tuning'];

/** In the order of the documentation. */
export const SUPPORTED_KEYS = {
  model_name_or_path: {
    kind: 'text',
    fallback: null,
    required: true,
    help: 'the base: a catalog name, a Hub id, a folder or a .gguf file, as `--model` of `serve`',
  },
  stage: {
    kind: 'choice',
    choices: ['pt', 'sft', 'dpo'],
    refused: {
      rm: 'reward models are not trained; `stage: dpo` takes the same pairs',
      ppo: REWARD,
      kto: 'learns from single answers marked good or bad; the nearest is `stage: dpo`, with pairs of a better and a worse answer',
    },
    fallback: 'sft',
    help: 'continued pretraining on text, supervised fine-tuning, or direct preference optimization',
  },
  finetuning_type: {
    kind: 'choice',
    choices: ['lora', 'full', 'prefix_tuning', 'prompt_tuning', 'p_tuning', 'bitfit', 'bottleneck'],
    refused: {
      oft: 'orthogonal fine-tuning is not computed; the nearest is `finetuning_type: lora`',
      freeze:
        'training a few whole layers is not computed; the nearest is `finetuning_type: lora`, or `full`',
    },
    fallback: 'lora',
    help: 'the method; all but `lora` and `full` are beyond LLaMA-Factory',
  },
  output_dir: {
    kind: 'text',
    fallback: null,
    required: true,
    help: 'folder of the adapter, the checkpoints and the logs',
  },
  overwrite_output_dir: {
    kind: 'switch',
    fallback: false,
    help: 'begin anew where the folder holds a run; without it, such a run is taken up at its last checkpoint',
  },
  resume_from_checkpoint: {
    kind: 'text',
    fallback: null,
    orTrue: true,
    help: 'a checkpoint folder, or `true` for the newest in `output_dir`',
  },

  dataset: {
    kind: 'names',
    fallback: null,
    required: true,
    help: 'names in `dataset_info.json`, or paths of .json and .jsonl files',
  },
  eval_dataset: { kind: 'names', fallback: null, help: 'the same, held out to measure the loss on' },
  dataset_dir: { kind: 'text', fallback: 'data', help: 'folder of `dataset_info.json` and its files' },
  max_samples: { kind: 'integer', min: 1, fallback: null, help: 'examples taken of each dataset' },
  cutoff_len: { kind: 'integer', min: 16, fallback: 2048, help: 'longest example, in tokens' },
  mask_history: {
    kind: 'switch',
    fallback: false,
    help: 'of a conversation only the last answer is learned',
  },
  packing: {
    kind: 'switch',
    fallback: null,
    fallbackWords: 'true for `pt`, else false',
    help: 'several examples share a row; none sees another, as with `neat_packing`',
  },
  neat_packing: { kind: 'switch', fallback: false, help: 'the same as `packing: true`' },
  val_size: {
    kind: 'number',
    min: 0,
    fallback: 0,
    help: 'held out of the training data where there is no `eval_dataset`: a share below 1, or a number of examples',
  },

  per_device_train_batch_size: { kind: 'integer', min: 1, fallback: 8, help: 'rows of a micro-batch' },
  gradient_accumulation_steps: { kind: 'integer', min: 1, fallback: 1, help: 'micro-batches of a step' },
  num_train_epochs: { kind: 'number', above: 0, fallback: 3, help: 'passes over the data' },
  max_steps: { kind: 'integer', min: -1, fallback: -1, help: 'ends the run after so many steps; -1 is none' },
  learning_rate: { kind: 'number', above: 0, fallback: 5e-5, help: 'the highest of the schedule' },
  lr_scheduler_type: {
    kind: 'choice',
    choices: ['cosine', 'linear', 'constant', 'constant_with_warmup'],
    refused: Object.fromEntries(
      [
        'cosine_with_restarts',
        'cosine_with_min_lr',
        'polynomial',
        'inverse_sqrt',
        'reduce_lr_on_plateau',
        'warmup_stable_decay',
      ].map((name) => [name, 'it is not computed; the nearest is `lr_scheduler_type: cosine`']),
    ),
    fallback: 'linear',
    help: 'the schedule after the warm-up; `constant` has none',
  },
  warmup_ratio: { kind: 'number', min: 0, max: 1, fallback: 0, help: 'share of the steps that warm up' },
  warmup_steps: {
    kind: 'number',
    min: 0,
    fallback: 0,
    help: 'the same as a number of steps, or as a share where it is below 1; wins over `warmup_ratio`',
  },
  weight_decay: { kind: 'number', min: 0, fallback: 0, help: "AdamW's" },
  adam_beta1: { kind: 'number', min: 0, below: 1, fallback: 0.9, help: "AdamW's" },
  adam_beta2: { kind: 'number', min: 0, below: 1, fallback: 0.999, help: "AdamW's" },
  adam_epsilon: { kind: 'number', above: 0, fallback: 1e-8, help: "AdamW's" },
  max_grad_norm: { kind: 'number', min: 0, fallback: 1, help: 'gradients are scaled down to it; 0 is none' },
  optim: {
    kind: 'choice',
    choices: [
      'adamw_torch',
      'adamw_torch_fused',
      'adamw_hf',
      'adamw_8bit',
      'adamw_bnb_8bit',
      'paged_adamw',
      'paged_adamw_8bit',
      'paged_adamw_32bit',
    ],
    refused: Object.fromEntries(
      ['adafactor', 'sgd', 'lion_8bit', 'lion_32bit', 'rmsprop', 'adagrad', 'lomo', 'adalomo'].map((name) => [
        name,
        'it is not computed; the nearest is `optim: adamw_torch`',
      ]),
    ),
    fallback: 'adamw_torch',
    help: 'all are AdamW with its states in 32-bit floats',
  },
  seed: {
    kind: 'integer',
    min: 0,
    max: 2 ** 32 - 1,
    fallback: 42,
    help: 'of initial values, order and dropout',
  },
  disable_gradient_checkpointing: {
    kind: 'switch',
    fallback: false,
    help: 'keep every activation instead of computing it again: faster, more memory',
  },
  gradient_checkpointing: { kind: 'switch', fallback: true, help: 'the same, the other way round' },
  rope_scaling: {
    kind: 'choice',
    choices: ['linear', 'dynamic', 'yarn', 'llama3'],
    fallback: null,
    help: "stretches positions where `cutoff_len` is longer than the base's window",
  },

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

  eval_strategy: {
    kind: 'choice',
    choices: ['no', 'steps', 'epoch'],
    fallback: 'no',
    help: '`no` with held-out data measures once an epoch too',
  },
  eval_steps: {
    kind: 'integer',
    min: 1,
    fallback: null,
    fallbackWords: '`logging_steps`',
    help: 'steps between evaluations',
  },
  early_stopping_steps: {
    kind: 'integer',
    min: 1,
    fallback: null,
    help: 'evaluations without a better loss after which the run ends',
  },
  save_strategy: {
    kind: 'choice',
    choices: ['no', 'steps', 'epoch'],
    fallback: 'steps',
    help: '`no` keeps one checkpoint an epoch too, so that a broken run can go on',
  },
  save_steps: { kind: 'integer', min: 1, fallback: 500, help: 'steps between checkpoints' },
  save_total_limit: {
    kind: 'integer',
    min: 1,
    fallback: null,
    fallbackWords: 'all are kept',
    help: 'checkpoints kept beside the best',
  },
  logging_steps: {
    kind: 'integer',
    min: 1,
    fallback: 500,
    help: 'steps between lines on the terminal; trainer_log.jsonl has every step',
  },
  report_to: {
    kind: 'choice',
    choices: ['none', 'tensorboard'],
    refused: Object.fromEntries(
      ['all', 'wandb', 'swanlab', 'mlflow', 'trackio', 'comet_ml', 'neptune', 'clearml'].map((name) => [
        name,
        'it is not written to; the nearest is `report_to: tensorboard`',
      ]),
    ),
    fallback: 'none',
    help: "TensorBoard's events are in `output_dir`/runs in any case",
  },

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
  backend: {
    kind: 'choice',
    choices: ['onnx', 'tfjs'],
    fallback: 'onnx',
    help: 'what computes: ONNX Runtime, or TensorFlow.js',
  },
} as const satisfies Readonly<Record<string, SupportedKey>>;

type Keys = typeof SUPPORTED_KEYS;
type Value<K extends SupportedKey> = K extends { kind: 'text' }
  ? string | NullFallback<K>
  : K extends { kind: 'integer' | 'number' }
    ? number | NullFallback<K>
    : K extends { kind: 'switch' }
      ? boolean | NullFallback<K>
      : K extends { kind: 'choice'; choices: readonly (infer C)[] }
        ? C | NullFallback<K>
        : readonly string[] | NullFallback<K>;
type NullFallback<K> = K extends { required: true } ? never : K extends { fallback: null } ? null : never;

/** Every supported key's value, given or its default. */
export type KeyValues = { readonly [K in keyof Keys]: Value<Keys[K]> };
