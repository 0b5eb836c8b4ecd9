// LLaMA-Factory's own example files: each gives a configuration, or a refusal that names the right keys.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ACCEPTED_KEYS } from '../../src/cli/yaml/accepted-keys.js';
import { REFUSED_KEYS } from '../../src/cli/yaml/refused-keys.js';
import { SUPPORTED_KEYS } from '../../src/cli/yaml/supported-keys.js';
import { readTrainingConfig } from '../../src/cli/yaml/training-config.js';
import { GatewayError } from '../../src/errors.js';
import { sharedData } from '../helpers/tokenizer-fixture.js';

const folder = join(sharedData, 'llamafactory-yaml');
const skip = existsSync(folder) ? false : `${folder} is not there`;

/** File -> the keys that are refused, in the order of the file; none gives a configuration. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  'ascend/qwen3_5_full_sft_fsdp2.yaml': [],
  'ascend/qwen3_5moe_lora_sft_fsdp2.yaml': [],
  'ascend/qwen3_full_sft_fsdp2.yaml': [],
  'ascend/qwen3moe_full_sft_fsdp.yaml': [],
  'ascend/qwen3vlmoe_full_sft_fsdp2.yaml': [],
  'ascend/qwen3vlmoe_lora_sft_fsdp.yaml': [],
  'extras/adam_mini/qwen2_full_sft.yaml': ['use_adam_mini'],
  'extras/apollo/llama3_full_sft.yaml': ['use_apollo'],
  'extras/asft/llama2_full_asft.yaml': ['deepspeed', 'use_asft_loss'],
  'extras/asft/qwen2_full_asft.yaml': ['deepspeed', 'use_asft_loss'],
  'extras/badam/llama3_full_sft.yaml': ['use_badam'],
  'extras/dft/qwen2_full_sft.yaml': ['use_dft_loss'],
  'extras/eaft/qwen25_05b_eaft_full.yaml': ['use_eaft_loss'],
  'extras/fp8/llama3_fp8_deepspeed_sft.yaml': ['deepspeed', 'report_to'],
  'extras/fp8/llama3_fp8_fsdp_sft.yaml': ['fsdp', 'report_to'],
  'extras/fsdp_qlora/llama3_lora_sft.yaml': [],
  'extras/galore/llama3_full_sft.yaml': ['use_galore'],
  'extras/llama_pro/llama3_freeze_sft.yaml': ['finetuning_type', 'use_llama_pro'],
  'extras/loraplus/llama3_lora_sft.yaml': [],
  'extras/mod/llama3_full_sft.yaml': ['mixture_of_depths'],
  'extras/muon/qwen2_full_sft.yaml': ['use_muon'],
  'extras/nlg_eval/llama3_lora_predict.yaml': ['adapter_name_or_path', 'do_predict', 'dataset'],
  'extras/oft/llama3_oft_sft.yaml': ['finetuning_type'],
  'extras/oft/qwen2_5vl_oft_sft.yaml': ['finetuning_type'],
  'extras/pissa/llama3_lora_sft.yaml': ['pissa_init'],
  'extras/qoft/llama3_oft_sft_awq.yaml': ['finetuning_type'],
  'extras/qoft/llama3_oft_sft_bnb_npu.yaml': ['double_quantization', 'finetuning_type'],
  'extras/qoft/llama3_oft_sft_gptq.yaml': ['finetuning_type'],
  'inference/mossvl.yaml': ['infer_backend', 'output_dir', 'dataset'],
  'inference/qwen3.yaml': ['infer_backend', 'output_dir', 'dataset'],
  'inference/qwen3_full_sft.yaml': ['infer_backend', 'output_dir', 'dataset'],
  'inference/qwen3_lora_sft.yaml': ['adapter_name_or_path', 'infer_backend', 'output_dir', 'dataset'],
  'inference/qwen3vl.yaml': ['infer_backend', 'output_dir', 'dataset'],
  'ktransformers/train_lora/deepseek_v2_lora_sft_kt.yaml': ['use_kt'],
  'ktransformers/train_lora/deepseek_v3_int8_lora_sft_kt.yaml': ['use_kt'],
  'ktransformers/train_lora/deepseek_v3_lora_sft_kt.yaml': ['use_kt'],
  'ktransformers/train_lora/qwen3_5moe_lora_sft_kt.yaml': ['use_kt'],
  'ktransformers/train_lora/qwen3moe_lora_sft_kt.yaml': ['use_kt'],
  'ktransformers/train_lora/qwen3vlmoe_lora_sft_kt.yaml': ['use_kt'],
  'megatron/qwen2_vl_full.yaml': [
    'tensor_model_parallel_size',
    'sequence_parallel',
    'pipeline_model_parallel_size',
  ],
  'megatron/qwen3_moe_full.yaml': ['pipeline_model_parallel_size', 'expert_model_parallel_size'],
  'megatron_bridge/llama3_sft.yaml': [],
  'merge_lora/mossvl_lora_sft.yaml': ['adapter_name_or_path', 'export_dir', 'output_dir', 'dataset'],
  'merge_lora/qwen3_full_sft.yaml': ['export_dir', 'output_dir', 'dataset'],
  'merge_lora/qwen3_gptq.yaml': ['export_dir', 'output_dir', 'dataset'],
  'merge_lora/qwen3_lora_sft.yaml': ['adapter_name_or_path', 'export_dir', 'output_dir', 'dataset'],
  'merge_lora/qwen3vl_lora_sft.yaml': ['adapter_name_or_path', 'export_dir', 'output_dir', 'dataset'],
  'train_full/mossvl_full_sft.yaml': ['deepspeed'],
  'train_full/qwen3_full_sft.yaml': ['deepspeed'],
  'train_full/qwen3vl_full_sft.yaml': ['deepspeed'],
  'train_lora/mossvl_lora_sft.yaml': [],
  'train_lora/qwen3_lora_dpo.yaml': [],
  'train_lora/qwen3_lora_kto.yaml': ['stage'],
  'train_lora/qwen3_lora_pretrain.yaml': [],
  'train_lora/qwen3_lora_reward.yaml': ['stage'],
  'train_lora/qwen3_lora_sft.yaml': [],
  'train_lora/qwen3_lora_sft_ds3.yaml': ['deepspeed'],
  'train_lora/qwen3_lora_sft_ray.yaml': ['dataset_dir'],
  'train_lora/qwen3_preprocess.yaml': ['tokenized_path'],
  'train_lora/qwen3vl_lora_dpo.yaml': [],
  'train_lora/qwen3vl_lora_sft.yaml': [],
  'train_qlora/llama3_lora_sft_aqlm.yaml': [],
  'train_qlora/llama3_lora_sft_awq.yaml': [],
  'train_qlora/llama3_lora_sft_gptq.yaml': [],
  'train_qlora/qwen3_lora_sft_bnb_npu.yaml': ['double_quantization'],
  'train_qlora/qwen3_lora_sft_otfq.yaml': [],
};

/** The key that each line of a refusal is about. */
function refusedKeys(text: string, file: string): readonly string[] {
  try {
    readTrainingConfig(text, file, [], '/work-folder');
    return [];
  } catch (error) {
    assert(error instanceof GatewayError && error.code === 'invalid_config', String(error));
    return error.message.split('\n').map((line) => /`(\w+)/.exec(line)![1]!);
  }
}

test('each example file gives a configuration, or a refusal of the right keys', { skip }, () => {
  const files = readdirSync(folder, { recursive: true })
    .map(String)
    .filter((file) => file.endsWith('.yaml'));
  assert(files.length >= 15, `only ${files.length} files`);
  for (const file of files) {
    const expected = REFUSED[file.replaceAll('\\', '/')];
    assert(expected !== undefined, `${file} is not in the list`);
    assert.deepEqual(refusedKeys(readFileSync(join(folder, file), 'utf8'), file), expected, file);
  }
});

for (const [list, isFirst] of [
  ['KEYS.tsv', true],
  ['KEYS-v1.tsv', false],
] as const)
  test(`every key of ${list} is honoured, noted or refused by name`, { skip }, () => {
    const keys = readFileSync(join(folder, list), 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split('\t')[0]!.replace(/^v1:/, ''));
    assert(keys.length > (isFirst ? 130 : 20), `only ${keys.length} keys`);
    const unknown = keys.filter(
      (key) => !Object.hasOwn(SUPPORTED_KEYS, key) && !ACCEPTED_KEYS.has(key) && !REFUSED_KEYS.has(key),
    );
    assert.deepEqual(unknown, []);
  });

test('no key is in two classes', () => {
  const supported = Object.keys(SUPPORTED_KEYS);
  const twice = [...ACCEPTED_KEYS.keys(), ...REFUSED_KEYS.keys()].filter(
    (key) => supported.includes(key) || (ACCEPTED_KEYS.has(key) && REFUSED_KEYS.has(key)),
  );
  assert.deepEqual(twice, []);
});

test('what a refusal proposes is a supported key, with a value that it takes', () => {
  for (const [key, { instead }] of REFUSED_KEYS) {
    if (instead === null) continue;
    const name = instead.split(':')[0]!;
    assert(Object.hasOwn(SUPPORTED_KEYS, name), `${key} proposes ${instead}`);
    if (!instead.includes(':')) continue;
    const text = `model_name_or_path: m\ndataset: d\noutput_dir: o\n`;
    const keys = refusedKeys(name in { model_name_or_path: 1 } ? text : `${text}${instead}\n`, 'file');
    assert.deepEqual(keys, [], `${key} proposes ${instead}`);
  }
});
