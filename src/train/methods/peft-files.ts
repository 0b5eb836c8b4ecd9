// The files that a trained adapter is made of: adapter_config.json and adapter_model.safetensors, as PEFT names and reads them, or with a
// manifest where PEFT has no format. The weights' header says which base, chat template and RoPE scaling they were trained on.

import { CONFIG_FILE, WEIGHTS_FILE } from '../../adapters/adapter-files.js';
import { MANIFEST_FORMAT, type ManifestMethod } from '../../adapters/manifest.js';
import { BASE_HASH_METADATA, CHAT_TEMPLATE_METADATA } from '../../adapters/peft.js';
import { ROPE_METADATA, ropeText } from '../../adapters/rope-origin.js';
import type { PeftType } from '../../adapters/config-keys.js';
import { writeSafetensors } from '../../formats/safetensors.js';
import type { Manifest } from '../../model/artifact.js';
import type { Parameter } from '../types.js';

/** What a method knows of its base. */
export type MethodBase = Pick<Manifest, 'architecture' | 'baseHash' | 'name'> & {
  /** sha256 of the template of its conversations; null or absent where it has none. */
  readonly chatTemplateHash?: string | null;
};

/** Tensor name -> values, as the file has them. */
export type AdapterTensors = ReadonlyMap<
  string,
  { readonly shape: readonly number[]; readonly data: Float32Array }
>;

/** A PEFT folder. `config` has the method's own keys; those that are absent have PEFT's defaults. */
export function peftFiles(
  base: MethodBase,
  type: PeftType,
  config: Readonly<Record<string, unknown>>,
  tensors: AdapterTensors,
): ReadonlyMap<string, Uint8Array> {
  const common = {
    peft_type: type,
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base.name,
    inference_mode: true,
  };
  return adapterFiles(base, { ...common, ...config }, tensors);
}

/** A folder with a manifest: docs/adapter-format.md. */
export function manifestFiles(
  base: MethodBase,
  method: ManifestMethod,
  config: Readonly<Record<string, unknown>>,
  tensors: AdapterTensors,
): ReadonlyMap<string, Uint8Array> {
  const common = {
    format: MANIFEST_FORMAT,
    method,
    base_model_name_or_path: base.name,
    num_layers: base.architecture.numLayers,
    hidden_size: base.architecture.hiddenSize,
  };
  return adapterFiles(base, { ...common, ...config }, tensors);
}

/** The parameters as tensors under their own names. */
export function tensorsOf(parameters: readonly Parameter[]): AdapterTensors {
  return new Map(parameters.map(({ name, shape, values }) => [name, { shape, data: values }] as const));
}

/** Names of the modules of a PEFT model begin with this. */
export const PEFT_PREFIX = 'base_model.model.';
/** The header's entry by which PyTorch's readers know their files. */
export const PYTORCH_METADATA = { format: 'pt' } as const;

function adapterFiles(
  { architecture, baseHash, chatTemplateHash = null }: MethodBase,
  config: object,
  tensors: AdapterTensors,
): ReadonlyMap<string, Uint8Array> {
  const metadata = {
    ...PYTORCH_METADATA,
    [BASE_HASH_METADATA]: baseHash,
    [ROPE_METADATA]: ropeText(architecture.ropeScaling),
    ...(chatTemplateHash === null ? {} : { [CHAT_TEMPLATE_METADATA]: chatTemplateHash }),
  };
  return new Map([
    [CONFIG_FILE, new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`)],
    [WEIGHTS_FILE, writeSafetensors(tensors, metadata)],
  ]);
}
