// Keys of LLaMA-Factory that would change what is trained in a way that is not computed here: why, and what comes nearest.
// A value under which the key changes nothing (false, null, or one listed) is let through.

export interface RefusedKey {
  readonly reason: string;
  /** A supported key with a value, as one would write it; null where nothing comes near. */
  readonly instead: string | null;
  readonly neutral?: readonly unknown[];
}

const ONE_MACHINE = 'a run is one process on one machine';
const OPTIMIZER = 'the optimizer is AdamW';
const LOSS = 'the loss is the mean of the supervised tokens';
const MERGE =
  'this file merges an adapter into its base; adapters are served unmerged, so there is nothing to do';
const V1 = "it is of LLaMA-Factory's second schema, which is not read";
const TOKENS = "the base's vocabulary stays as it is";

function refuse(reason: string, instead: string | null, neutral: readonly unknown[] = []): RefusedKey {
  return { reason, instead, neutral };
}

export const REFUSED_KEYS: ReadonlyMap<string, RefusedKey> = new Map(
  Object.entries({
    deepspeed: refuse(ONE_MACHINE, 'quantization_bit: 4'),
    fsdp: refuse(ONE_MACHINE, 'quantization_bit: 4', ['', false]),
    tensor_model_parallel_size: refuse(ONE_MACHINE, 'per_device_train_batch_size', [1]),
    pipeline_model_parallel_size: refuse(ONE_MACHINE, 'per_device_train_batch_size', [1]),
    virtual_pipeline_model_parallel_size: refuse(ONE_MACHINE, 'per_device_train_batch_size', [1]),
    expert_model_parallel_size: refuse(ONE_MACHINE, 'per_device_train_batch_size', [1]),
    context_parallel_size: refuse(ONE_MACHINE, 'cutoff_len', [1]),
    hyper_parallel_cp_size: refuse(ONE_MACHINE, 'cutoff_len', [1]),
    sequence_parallel: refuse(ONE_MACHINE, 'cutoff_len'),
    use_mca: refuse(ONE_MACHINE, 'finetuning_type'),
    use_megatron_bridge: refuse(ONE_MACHINE, 'finetuning_type'),
    megatron_pretrained_checkpoint: refuse(ONE_MACHINE, 'model_name_or_path'),
    use_hyper_parallel: refuse(ONE_MACHINE, 'finetuning_type'),
    use_kt: refuse('mixture-of-experts bases are not computed', 'quantization_bit: 4'),

    adapter_name_or_path: refuse(
      'a run begins with the base alone, or goes on from its own checkpoint',
      'resume_from_checkpoint',
    ),
    adapter_folder: refuse(
      'a run begins with the base alone, or goes on from its own checkpoint',
      'resume_from_checkpoint',
    ),
    create_new_adapter: refuse('a run begins with the base alone', 'output_dir'),
    model_revision: refuse('the revision is part of the name', 'model_name_or_path: owner/name@revision', [
      'main',
    ]),
    train_from_scratch: refuse('the base keeps its weights', 'finetuning_type: full'),
    mixture_of_depths: refuse("the base's architecture stays as it is", 'finetuning_type: lora'),
    shift_attn: refuse('attention is over the whole window', 'rope_scaling'),
    use_llama_pro: refuse('no blocks are added to the base', 'finetuning_type: bottleneck'),
    resize_vocab: refuse(TOKENS, 'prompt_tuning_init_text'),
    add_tokens: refuse(TOKENS, 'prompt_tuning_init_text'),
    add_special_tokens: refuse(TOKENS, 'prompt_tuning_init_text'),
    new_special_tokens_config: refuse(TOKENS, 'prompt_tuning_init_text'),
    split_special_tokens: refuse('special tokens in a message are text and stay so', 'dataset'),
    freeze_language_model: refuse('there is nothing else to train', 'finetuning_type'),

    additional_target: refuse('embeddings and norms are trained in whole runs only', 'finetuning_type: full'),
    use_dora: refuse('DoRA adapters are served, not trained', 'use_rslora: true'),
    pissa_init: refuse(
      'LoRA begins as the base itself, so that it fits the base that is served',
      'loraplus_lr_ratio',
    ),
    neftune_noise_alpha: refuse('embeddings get no noise', 'lora_dropout'),
    use_galore: refuse(OPTIMIZER, 'finetuning_type: lora'),
    use_apollo: refuse(OPTIMIZER, 'finetuning_type: lora'),
    use_badam: refuse(OPTIMIZER, 'finetuning_type: lora'),
    use_adam_mini: refuse(OPTIMIZER, 'optim: adamw_torch'),
    use_muon: refuse(OPTIMIZER, 'optim: adamw_torch'),
    use_dft_loss: refuse(LOSS, 'stage: sft'),
    use_asft_loss: refuse(LOSS, 'stage: sft'),
    use_eaft_loss: refuse(LOSS, 'stage: sft'),
    label_smoothing_factor: refuse(LOSS, 'dpo_label_smoothing', [0]),
    pref_ftx: refuse('the preference loss stands alone', 'pref_beta', [0]),
    pref_bco_weight: refuse('the preference loss stands alone', 'pref_beta', [0]),
    ld_alpha: refuse('answers count whole', 'pref_beta'),
    ref_model: refuse("DPO's reference is the base itself", 'model_name_or_path'),
    ref_model_adapters: refuse("DPO's reference is the base itself", 'model_name_or_path'),

    train_on_prompt: refuse('only answers are learned', 'stage: pt'),
    streaming: refuse('the data are read as a whole', 'max_samples'),
    mix_strategy: refuse('datasets are joined one behind the other', 'max_samples', ['concat']),
    default_system: refuse('the system message is part of the data', 'dataset'),
    enable_thinking: refuse("the base's template decides", 'dataset', [true]),
    preserve_thinking: refuse("the base's template decides", 'dataset'),
    tokenized_path: refuse('tokenizing is part of the run', 'dataset'),
    disable_shuffling: refuse('each epoch has its own order', 'seed'),
    group_by_length: refuse('the order is by chance alone', 'packing: true'),

    do_predict: refuse('a run ends with the adapter; answers come from `graft serve`', 'eval_dataset'),
    infer_backend: refuse('the file is for inference, which is what `graft serve` does', 'output_dir'),
    export_dir: refuse(MERGE, 'output_dir'),
    export_hub_model_id: refuse(MERGE, 'output_dir'),
    push_to_hub: refuse('nothing is uploaded', 'output_dir'),
    use_swanlab: refuse('it is not written to', 'report_to: tensorboard'),
    enable_torch_profiler: refuse('there is no PyTorch here', 'logging_steps: 1'),
    torch_compile: refuse('there is no PyTorch here', 'backend: onnx'),
    torch_empty_cache_steps: refuse('there is no PyTorch here', 'per_device_train_batch_size'),
    auto_find_batch_size: refuse('`graft plan` says what fits', 'per_device_train_batch_size'),
    eval_delay: refuse('evaluation begins with the run', 'eval_steps', [0]),

    model: refuse(V1, 'model_name_or_path'),
    model_class: refuse(V1, 'model_name_or_path'),
    train_dataset: refuse(V1, 'dataset'),
    micro_batch_size: refuse(V1, 'per_device_train_batch_size'),
    global_batch_size: refuse(V1, 'gradient_accumulation_steps'),
    batching_strategy: refuse(V1, 'packing'),
    peft_config: refuse(V1, 'lora_rank'),
    quant_config: refuse(V1, 'quantization_bit: 4'),
    dist_config: refuse(V1, 'quantization_bit: 4'),
    kernel_config: refuse(V1, 'backend: onnx'),
    optim_config: refuse(V1, 'optim: adamw_torch'),
    init_config: refuse(V1, 'model_name_or_path'),
    sample_backend: refuse(V1, 'backend: onnx'),
    cp_size: refuse(V1, 'cutoff_len', [1]),
    cp_mode: refuse(V1, 'cutoff_len'),
  } satisfies Record<string, RefusedKey>),
);

/** Whether the value leaves everything as it is. */
export function isNeutral({ neutral = [] }: RefusedKey, value: unknown): boolean {
  return value === null || value === undefined || value === false || neutral.includes(value);
}
