// Prefix tuning, prompt tuning and P-tuning as PEFT stores them: one tensor `prompt_embeddings`, in which whatever encoder was trained is
// already folded. Prefix tuning holds keys and values, the other two hold embeddings that are run through the base once.

import { CONFIG_FILE } from './adapter-files.js';
import type { AdapterBase } from './base.js';
import { checkBaseSizes, type ConfigFields, countField } from './config-fields.js';
import { ofAdapter, ofBase, type AdapterTensor, type PeftTensors } from './peft-tensors.js';
import { baseMismatch, unsupportedAdapter } from './refusal.js';
import type { PrefixAdapter, PromptEmbeddings } from './types.js';

const TENSOR = 'prompt_embeddings';

/** Keys are stored unrotated and enter the cache as they are. Column of the file: ((layer * 2 + kv) * heads + head) * headDim + d. */
export function readPrefix(
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
  hash: string,
): PrefixAdapter {
  const { numLayers, numKvHeads, headDim } = base.architecture;
  const width = numKvHeads * headDim;
  checkBaseSizes(fields, { num_layers: numLayers, token_dim: width, num_attention_heads: numKvHeads });
  const numVirtualTokens = virtualTokens(fields, base);
  const tensor = takeOnly(tensors, numVirtualTokens, 2 * numLayers * width);
  const values = tensor.read();
  const part = (layer: number, kv: number) =>
    headsFirst(values, numVirtualTokens, numKvHeads, headDim, {
      start: (layer * 2 + kv) * width,
      stride: 2 * numLayers * width,
    });
  const layers = Array.from({ length: numLayers }, (_, layer) => ({ k: part(layer, 0), v: part(layer, 1) }));
  return { kind: 'prefix', hash, sizeBytes: values.byteLength, numVirtualTokens, layers };
}

export function readPrompt(
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
  hash: string,
): PromptEmbeddings {
  const { numLayers, hiddenSize, numHeads } = base.architecture;
  checkBaseSizes(fields, { num_layers: numLayers, token_dim: hiddenSize, num_attention_heads: numHeads });
  const numVirtualTokens = virtualTokens(fields, base);
  const embeddings = takeOnly(tensors, numVirtualTokens, hiddenSize).read();
  return { kind: 'prompt', hash, numVirtualTokens, embeddings };
}

function virtualTokens(fields: ConfigFields, base: AdapterBase): number {
  const submodules = countField(fields, 'num_transformer_submodules', 1);
  if (submodules !== 1)
    throw unsupportedAdapter(
      `${CONFIG_FILE}: \`num_transformer_submodules\` is ${submodules}: adapters of causal language models are served, which have 1`,
      'num_transformer_submodules',
    );
  const count = countField(fields, 'num_virtual_tokens', Number.NaN);
  if (count >= base.architecture.contextLength)
    throw baseMismatch(
      `${CONFIG_FILE}: \`num_virtual_tokens\` is ${count}, the base has a context of ${base.architecture.contextLength} tokens in all`,
      'num_virtual_tokens',
    );
  return count;
}

function takeOnly(tensors: PeftTensors, rows: number, cols: number): AdapterTensor {
  const tensor = tensors.take(TENSOR, [ofAdapter(rows), ofBase(cols)]);
  tensors.finish();
  return tensor;
}

/** Rows of [V, ...], of which the columns from `start` are [heads, headDim], as [heads, V, headDim]. */
function headsFirst(
  values: Float32Array,
  numTokens: number,
  numHeads: number,
  headDim: number,
  columns: { readonly start: number; readonly stride: number },
): Float32Array {
  const result = new Float32Array(numHeads * numTokens * headDim);
  for (let head = 0; head < numHeads; head++)
    for (let token = 0; token < numTokens; token++) {
      const from = token * columns.stride + columns.start + head * headDim;
      result.set(values.subarray(from, from + headDim), (head * numTokens + token) * headDim);
    }
  return result;
}
