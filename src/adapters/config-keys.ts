// Every key that PEFT writes into adapter_config.json, by what it means here: read, without effect on the outputs, or refused.
// A key that is in none of the lists is refused unless its value says that it is off: what it does to the outputs is not known.

import { CONFIG_FILE } from './adapter-files.js';
import { type ConfigFields, isNeutral, valueText } from './config-fields.js';
import { unsupportedAdapter } from './refusal.js';

export const SERVED_TYPES = [
  'LORA',
  'IA3',
  'LOHA',
  'LOKR',
  'PREFIX_TUNING',
  'PROMPT_TUNING',
  'P_TUNING',
] as const;
export type PeftType = (typeof SERVED_TYPES)[number];

/** Where the adapter comes from and how it was trained: nothing that its outputs depend on. */
const HARMLESS_ALWAYS = [
  'peft_type',
  'task_type',
  'auto_mapping',
  'base_model_name_or_path',
  'base_model_class',
  'parent_library',
  'inference_mode',
  'peft_version',
  'revision',
  'ensure_weight_tying',
] as const;

const MODULE_KEYS = ['target_modules', 'exclude_modules'] as const;
const LAYER_KEYS = ['layers_to_transform', 'layers_pattern', 'rank_pattern', 'alpha_pattern'] as const;
const PROMPT_KEYS = [
  'num_virtual_tokens',
  'token_dim',
  'num_transformer_submodules',
  'num_attention_heads',
  'num_layers',
] as const;
const LYCORIS_HARMLESS = ['rank_dropout', 'module_dropout', 'init_weights', 'use_effective_conv2d'] as const;

/** Per type: keys that are read, and keys that only shape the training or the state at its start. */
const KNOWN: Record<PeftType, readonly string[]> = {
  LORA: [
    ...MODULE_KEYS,
    ...LAYER_KEYS,
    ...['r', 'lora_alpha', 'bias', 'use_rslora', 'use_dora', 'lora_bias', 'init_lora_weights'],
    ...['lora_dropout', 'loftq_config', 'eva_config', 'corda_config', 'lora_ga_config', 'velora_config'],
    ...['megatron_core', 'qalora_group_size', 'runtime_config'],
  ],
  IA3: [...MODULE_KEYS, 'feedforward_modules', 'init_ia3_weights'],
  LOHA: [...MODULE_KEYS, ...LAYER_KEYS, ...LYCORIS_HARMLESS, 'r', 'alpha'],
  LOKR: [
    ...MODULE_KEYS,
    ...LAYER_KEYS,
    ...LYCORIS_HARMLESS,
    ...['r', 'alpha', 'decompose_both', 'decompose_factor', 'rank_dropout_scale'],
  ],
  PREFIX_TUNING: [...PROMPT_KEYS, 'encoder_hidden_size', 'prefix_projection', 'init_weights'],
  PROMPT_TUNING: [
    ...PROMPT_KEYS,
    ...['prompt_tuning_init', 'prompt_tuning_init_text', 'tokenizer_name_or_path', 'tokenizer_kwargs'],
  ],
  P_TUNING: [
    ...PROMPT_KEYS,
    ...['encoder_reparameterization_type', 'encoder_hidden_size', 'encoder_num_layers', 'encoder_dropout'],
  ],
};

/** Keys with an effect that is not served, and what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  modules_to_save: 'whole trained modules are not served; train without it',
  trainable_token_indices: 'trained token embeddings are not served; train without it',
  fan_in_fan_out: 'the base stores its weights as [out, in]; train on linear layers, where it is false',
  alora_invocation_tokens: 'adapters that begin at an invocation token are not served; train a plain LoRA',
  use_qalora: 'QALoRA pools its input; train with use_qalora false',
  target_parameters: 'parameters outside linear layers are not served; use target_modules',
  layer_replication: 'the base keeps its number of layers; train without it',
  megatron_config: 'Megatron layers are not served; train without it',
  use_bdlora: 'block-diagonal factors are not served; train with use_bdlora null',
  arrow_config: 'routing between adapters is not served; combine adapters in the request instead',
  monteclora_config: 'sampled weights are not served; train without it',
  kasa_config: 'KaSA changes the weights of the base; train without it',
};

/** Start values that leave the base as it is. The others subtract from it, and PEFT says so in this key unless the adapter was converted. */
const PLAIN_INITS: readonly unknown[] = [true, false, null, 'gaussian', 'eva', 'orthogonal'];

/** The method, once nothing in the configuration asks for what is not served. Throws unsupported_adapter naming the key. */
export function checkConfigKeys(fields: ConfigFields): PeftType {
  const type = peftType(fields);
  const task = fields.task_type ?? null;
  if (task !== null && task !== 'CAUSAL_LM')
    throw refusedKey('task_type', task, 'adapters of causal language models are served (CAUSAL_LM)');
  for (const [key, value] of Object.entries(fields)) {
    if ((HARMLESS_ALWAYS as readonly string[]).includes(key) || KNOWN[type].includes(key)) continue;
    if (isNeutral(value)) continue;
    const reason = Object.hasOwn(REFUSED, key) ? REFUSED[key]! : undefined;
    throw refusedKey(
      key,
      value,
      reason ?? `this key of ${type} is not known here, and may change the outputs; train without it`,
    );
  }
  checkInit(type, fields);
  return type;
}

function peftType(fields: ConfigFields): PeftType {
  const type = fields.peft_type;
  if (type === undefined && ('fine_tune_type' in fields || 'lora_parameters' in fields))
    throw unsupportedAdapter(
      `${CONFIG_FILE} is in MLX's format (\`fine_tune_type\`, \`lora_parameters\`), not PEFT's; convert the adapter to PEFT's format`,
      'peft_type',
    );
  const served = SERVED_TYPES.find((name) => name === type);
  if (served === undefined)
    throw refusedKey('peft_type', type ?? null, `these are served: ${SERVED_TYPES.join(', ')}`);
  return served;
}

function checkInit(type: PeftType, fields: ConfigFields): void {
  const key = 'init_lora_weights';
  const value = fields[key] ?? true;
  if (type !== 'LORA' || PLAIN_INITS.includes(value)) return;
  throw refusedKey(
    key,
    value,
    'this start changes the weights of the base; save with path_initial_model_for_weight_conversion to get a plain LoRA',
  );
}

function refusedKey(key: string, value: unknown, advice: string) {
  return unsupportedAdapter(`${CONFIG_FILE}: \`${key}\` is ${valueText(value)}: ${advice}`, key);
}
