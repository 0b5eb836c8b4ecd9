// Reads a PEFT adapter's files into what the engine serves. Everything is checked: what is not understood is refused by name, and nothing
// is left out. No disk, no names.

import { hashAdapter, adapterFiles, WEIGHTS_FILE } from './adapter-files.js';
import type { AdapterBase } from './base.js';
import { checkConfigKeys, type PeftType } from './config-keys.js';
import { type ConfigFields, parseConfigFields } from './config-fields.js';
import { createPacer, type Pacer } from './pacer.js';
import { planIa3 } from './peft-ia3.js';
import { planLora } from './peft-lora.js';
import { planLycoris } from './peft-lycoris.js';
import { readPrefix, readPrompt } from './peft-prompt.js';
import { openPeftTensors, type PeftTensors } from './peft-tensors.js';
import { baseMismatch } from './refusal.js';
import { arraysOf, buildLayers, type SitePlan } from './site-plan.js';
import type { AdapterInfo, LayerDelta, LoraAdapter, PrefixAdapter, PromptEmbeddings } from './types.js';

/** What AdapterInfo says of the contents. */
export type AdapterFacts = Pick<
  AdapterInfo,
  'hash' | 'peftType' | 'servedAs' | 'rank' | 'targetModules' | 'numVirtualTokens' | 'sizeBytes'
>;

export interface PeftAdapter {
  readonly content: LoraAdapter | PrefixAdapter | PromptEmbeddings;
  readonly facts: AdapterFacts;
}

/** Header metadata by which a trainer can name the exact base (its sha256); checked where it is there. */
export const BASE_HASH_METADATA = 'base_hash';

/**
 * Reads base name -> bytes of a PEFT folder. Lets the event loop run in between.
 * Throws GatewayError invalid_adapter, unsupported_adapter, adapter_base_mismatch; `param` is the key, tensor or file.
 */
export async function readPeft(
  files: ReadonlyMap<string, Uint8Array>,
  base: AdapterBase,
  pacer: Pacer = createPacer(),
): Promise<PeftAdapter> {
  const { config, weights } = adapterFiles(files);
  const fields = parseConfigFields(config);
  const type = checkConfigKeys(fields);
  const tensors = openPeftTensors(weights, base.architecture.numLayers);
  checkBaseHash(tensors, base);
  const hash = await hashAdapter({ config, weights }, pacer);
  const sizeBytes = config.length + weights.length;
  if (type === 'PREFIX_TUNING' || type === 'PROMPT_TUNING' || type === 'P_TUNING') {
    const content = (type === 'PREFIX_TUNING' ? readPrefix : readPrompt)(fields, tensors, base, hash);
    const { numVirtualTokens } = content;
    const facts = { hash, peftType: type, rank: null, targetModules: [], numVirtualTokens, sizeBytes };
    return { content, facts: { ...facts, servedAs: 'prefix' } };
  }
  const plans = planSites(type, fields, tensors, base);
  tensors.finish();
  const content = loraAdapter(hash, await buildLayers(base.architecture, plans, pacer));
  const targetModules = [...new Set(plans.map((plan) => plan.site.projection as string))].toSorted();
  const facts = {
    hash,
    peftType: type,
    rank: content.maxRank,
    targetModules,
    numVirtualTokens: null,
    sizeBytes,
  };
  return { content, facts: { ...facts, servedAs: 'lora' } };
}

/** An adapter of these layers, with its size and largest rank counted. */
export function loraAdapter(hash: string, layers: readonly LayerDelta[]): LoraAdapter {
  let sizeBytes = 0;
  let maxRank = 0;
  for (const { lora, affine } of layers) {
    for (const delta of Object.values(lora)) maxRank = Math.max(maxRank, delta.rank);
    const arrays = [
      ...Object.values(lora).flatMap((delta) => arraysOf({ lora: delta, affine: null })),
      ...Object.values(affine).flatMap((delta) => arraysOf({ lora: null, affine: delta })),
    ];
    for (const values of arrays) sizeBytes += values.byteLength;
  }
  return { kind: 'lora', hash, sizeBytes, maxRank, layers };
}

function planSites(
  type: Exclude<PeftType, 'PREFIX_TUNING' | 'PROMPT_TUNING' | 'P_TUNING'>,
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
): readonly SitePlan[] {
  switch (type) {
    case 'LORA':
      return planLora(fields, tensors, base);
    case 'IA3':
      return planIa3(fields, tensors, base);
    case 'LOHA':
    case 'LOKR':
      return planLycoris(type, fields, tensors, base);
  }
}

function checkBaseHash(tensors: PeftTensors, base: AdapterBase): void {
  const expected = tensors.metadata.get(BASE_HASH_METADATA);
  if (expected === undefined || expected === base.baseHash) return;
  throw baseMismatch(
    `${WEIGHTS_FILE} was made for the base with hash ${expected}, ${base.name} has ${base.baseHash}; serve that base, or train again`,
    BASE_HASH_METADATA,
  );
}
