// A run's options as a job shows them: by the names under which they can be chosen (job-extension.ts).

import { ropeText } from '../../adapters/rope-origin.js';
import type { TrainingOptions } from '../../train/options.js';

/** The choices as they were made in the end, under the same names. */
export function optionsObject(options: TrainingOptions): Readonly<Record<string, unknown>> {
  return {
    stage: options.stage,
    ...methodObject(options.method),
    quantization: options.frozenWeights === 'f32' ? 'none' : options.frozenWeights,
    precision: options.precision,
    backend: options.backend,
    cutoff_len: options.cutoffLength,
    packing: options.packing,
    rope_scaling: ropeText(options.ropeScaling),
    per_device_train_batch_size: options.batchSize,
    gradient_accumulation_steps: options.accumulation,
    num_train_epochs: options.epochs,
    max_steps: options.maxSteps,
    learning_rate: options.learningRate,
    lr_scheduler_type: options.schedule,
    warmup_ratio: options.warmupRatio,
    weight_decay: options.weightDecay,
    adam_beta1: options.betas[0],
    adam_beta2: options.betas[1],
    adam_epsilon: options.epsilon,
    max_grad_norm: options.maxGradNorm,
    gradient_checkpointing: options.gradientCheckpointing,
    val_size: options.validationShare,
    eval_steps: options.evalSteps,
    early_stopping_patience: options.earlyStoppingPatience ?? 'never',
    save_steps: options.saveSteps,
    save_total_limit: options.keepCheckpoints,
    sample_steps: options.sampleSteps,
    sample_prompts: options.samplePrompts,
    ...(options.stage === 'dpo' && {
      pref_beta: options.dpo.beta,
      pref_loss: options.dpo.loss,
      dpo_label_smoothing: options.dpo.labelSmoothing,
    }),
  };
}

function methodObject(method: TrainingOptions['method']): Readonly<Record<string, unknown>> {
  const head = { finetuning_type: method.name };
  switch (method.name) {
    case 'lora':
      return {
        ...head,
        lora_rank: method.rank,
        lora_alpha: method.alpha,
        lora_dropout: method.dropout,
        lora_target: method.targets,
        use_rslora: method.rslora,
        loraplus_lr_ratio: method.plusRatio,
      };
    case 'prefix_tuning':
      return {
        ...head,
        num_virtual_tokens: method.numVirtualTokens,
        prefix_projection: method.projection !== null,
        ...(method.projection !== null && { encoder_hidden_size: method.projection.hidden }),
      };
    case 'prompt_tuning':
      return {
        ...head,
        num_virtual_tokens: method.numVirtualTokens,
        prompt_tuning_init_text: method.initText,
      };
    case 'p_tuning':
      return {
        ...head,
        num_virtual_tokens: method.numVirtualTokens,
        encoder_reparameterization_type: method.encoder,
        encoder_hidden_size: method.hidden,
      };
    case 'bitfit':
      return { ...head, lora_target: method.targets };
    case 'bottleneck':
      return { ...head, bottleneck_size: method.size };
    case 'full':
      return head;
  }
}
