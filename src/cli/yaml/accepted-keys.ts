// Keys that a training file may hold and that change nothing here: what is so in any case, or has no meaning without a GPU, several
// machines or images. The text says what happens instead.

const COMPANION = 'read with the key that it belongs to, which is not supported';
const FLOATS = 'sums, results and what is trained are 32-bit floats';
const ONE_PROCESS = 'a run is one process on one machine';
const DATA = 'the data are read and tokenized once, in the run itself';
const KERNELS = 'there is one implementation of attention and of the layers';
const HUB = 'HF_ENDPOINT and HF_TOKEN of the environment say where models come from';
const TEXT_ONLY = 'bases read text only';
const LOGS = 'the losses are in `output_dir`, as trainer_log.jsonl and as TensorBoard events';
const GENERATION = 'a run writes no texts';

function because(note: string, keys: string): readonly (readonly [string, string])[] {
  return keys
    .trim()
    .split(/\s+/)
    .map((key) => [key, note] as const);
}

/** Key -> what happens instead. */
export const ACCEPTED_KEYS: ReadonlyMap<string, string> = new Map([
  ...because('training is what the command does', 'do_train do_eval'),
  ...because("the base's own chat template is used, whatever its name", 'template tool_format'),
  ...because('no code of a model or dataset is ever run', 'trust_remote_code'),
  ...because(
    FLOATS,
    'fp16 pure_bf16 tf32 fp8 fp8_backend fp8_enable_fsdp_float8_all_gather upcast_layernorm upcast_lmhead_output bf16_full_eval fp16_full_eval',
  ),
  ...because(
    ONE_PROCESS,
    'ddp_timeout ddp_find_unused_parameters ddp_backend local_rank ray_num_workers ray_init_kwargs master_addr master_port data_shared_file_system quantization_device_map low_cpu_mem_usage offload_folder',
  ),
  ...because(
    DATA,
    'preprocessing_num_workers preprocessing_batch_size dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor overwrite_cache buffer_size remove_unused_columns cache_dir use_fast_tokenizer',
  ),
  ...because(
    KERNELS,
    'flash_attn use_v1_kernels enable_liger_kernel use_unsloth use_unsloth_gc use_kv_cache',
  ),
  ...because(
    'blocks are computed again in the backward pass; there is one form of it',
    'use_reentrant_gc gradient_checkpointing_kwargs',
  ),
  ...because(
    LOGS,
    'plot_loss run_name logging_dir logging_strategy logging_first_step include_num_input_tokens_seen include_effective_tokens_per_second compute_accuracy print_param_status log_level disable_tqdm',
  ),
  ...because(
    'a checkpoint always holds what resuming needs',
    'save_only_model save_safetensors save_on_each_node',
  ),
  ...because(
    'the checkpoint with the lowest held-out loss is kept and marked as the best',
    'load_best_model_at_end metric_for_best_model greater_is_better',
  ),
  ...because(
    'held-out rows run in batches of `per_device_train_batch_size`',
    'per_device_eval_batch_size eval_accumulation_steps eval_on_each_dataset',
  ),
  ...because('padding never counts', 'ignore_pad_token_for_loss'),
  ...because(
    TEXT_ONLY,
    'image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen use_audio_in_video audio_sampling_rate media_dir freeze_vision_tower freeze_multi_modal_projector',
  ),
  ...because(HUB, 'hf_hub_token ms_hub_token om_hub_token'),
  ...because(
    GENERATION,
    'max_new_tokens max_length temperature top_p top_k do_sample num_beams repetition_penalty length_penalty eval_num_beams',
  ),
  ...because('LoRA is never trained on the embedding', 'loraplus_lr_embedding'),
  ...because(
    COMPANION,
    'freeze_trainable_layers freeze_trainable_modules freeze_extra_modules oft_rank oft_block_size oft_target module_dropout pissa_iter pissa_convert ' +
      'galore_target galore_rank galore_update_interval galore_scale galore_proj_type galore_layerwise ' +
      'apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front ' +
      'badam_mode badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio badam_mask_mode badam_verbose ' +
      'asft_alpha eaft_alpha kt_config kt_cpu_activation kt_weight_path kt_non_expert_weight_path ' +
      'kto_chosen_weight kto_rejected_weight simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards ' +
      'ref_model_quantization_bit reward_model reward_model_adapters reward_model_quantization_bit reward_model_type ' +
      'fsdp_config fsdp_transformer_layer_cls_to_wrap recompute_granularity recompute_method recompute_num_layers ' +
      'bias_activation_fusion apply_rope_fusion masked_softmax_fusion cross_entropy_loss_fusion moe_grouped_gemm moe_token_dispatcher_type ' +
      'use_distributed_optimizer overlap_param_gather overlap_grad_reduce use_packed_sequences mixed_precision calculate_per_token_loss ' +
      'export_hf_on_finish export_size export_device export_legacy_format export_quantization_bit export_quantization_dataset ' +
      'export_quantization_nsamples export_quantization_maxlen predict_with_generate moe_aux_loss_coef ' +
      'swanlab_project swanlab_workspace swanlab_run_name swanlab_mode hub_model_id hub_token interleave_probs init_special_tokens infer_dtype',
  ),
]);
