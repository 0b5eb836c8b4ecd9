// Reads an adapter's files into what the engine serves. Everything is checked: what is not understood is refused by name, and nothing
// is left out. No disk, no names.

import { hashAdapter, adapterFiles, WEIGHTS_FILE } from './adapter-files.js';
import type { AdapterBase } from './base.js';
import { planBitfit } from './bitfit.js';
import { readBottleneck } from './bottleneck.js';
import { checkConfigKeys, type PeftType } from './config-keys.js';
import { type ConfigFields, parseConfigFields } from './config-fields.js';
import { createPacer, type Pacer } from './pacer.js';
import { loraAdapter } from './lora-adapter.js';
import { checkManifestKeys, isManifest, type ManifestType } from './manifest.js';
import { planIa3 } from './peft-ia3.js';
import { planLora } from './peft-lora.js';
import { planLycoris } from './peft-lycoris.js';
import { readPrefix, readPrompt } from './peft-prompt.js';
import { openPeftTensors, type PeftTensors } from './peft-tensors.js';
import { baseMismatch } from './refusal.js';
import { checkRopeOrigin } from './rope-origin.js';
import { buildLayers, projectionsOf, type SitePlan } from './site-plan.js';
import type {
  AdapterInfo,
  BottleneckAdapter,
  LoraAdapter,
  PrefixAdapter,
  PromptEmbeddings,
} from './types.js';

/** What AdapterInfo says of the contents. */
export type AdapterFacts = Pick<
  AdapterInfo,
  'hash' | 'peftType' | 'servedAs' | 'rank' | 'targetModules' | 'numVirtualTokens' | 'sizeBytes'
>;

export interface PeftAdapter {
  readonly content: LoraAdapter | PrefixAdapter | PromptEmbeddings | BottleneckAdapter;
  readonly facts: AdapterFacts;
}

/** Header metadata by which a trainer can name the exact base (its sha256); checked where it is there. */
export const BASE_HASH_METADATA = 'base_hash';
/** The same for the chat template of the conversations that it was trained on. */
export const CHAT_TEMPLATE_METADATA = 'chat_template_sha256';

/**
 * Reads base name -> bytes of a PEFT folder, or of one with a manifest (manifest.ts). Lets the event loop run in between.
 * Throws GatewayError invalid_adapter, unsupported_adapter, adapter_base_mismatch; `param` is the key, tensor or file.
 */
export async function readPeft(
  files: ReadonlyMap<string, Uint8Array>,
  base: AdapterBase,
  pacer: Pacer = createPacer(),
): Promise<PeftAdapter> {
  const { config, weights } = adapterFiles(files);
  const fields = parseConfigFields(config);
  const type = isManifest(fields) ? checkManifestKeys(fields) : checkConfigKeys(fields);
  const tensors = openPeftTensors(weights, base.architecture.numLayers);
  checkOrigin(tensors, base);
  const hash = await hashAdapter({ config, weights }, pacer);
  const { content, targetModules } = await readMethod(type, fields, tensors, base, hash, pacer);
  const facts: AdapterFacts = {
    hash,
    peftType: type,
    servedAs: content.kind === 'prompt' ? 'prefix' : content.kind,
    rank: content.kind === 'lora' ? content.maxRank : null,
    targetModules,
    numVirtualTokens: 'numVirtualTokens' in content ? content.numVirtualTokens : null,
    sizeBytes: config.length + weights.length,
  };
  return { content, facts };
}

async function readMethod(
  type: PeftType | ManifestType,
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
  hash: string,
  pacer: Pacer,
): Promise<{ readonly content: PeftAdapter['content']; readonly targetModules: readonly string[] }> {
  switch (type) {
    case 'PREFIX_TUNING':
      return { content: readPrefix(fields, tensors, base, hash), targetModules: [] };
    case 'PROMPT_TUNING':
    case 'P_TUNING':
      return { content: readPrompt(fields, tensors, base, hash), targetModules: [] };
    case 'BOTTLENECK':
      return {
        content: await readBottleneck(fields, tensors, base, hash, pacer),
        targetModules: ['down_proj', 'o_proj'],
      };
    default: {
      const plans = planSites(type, fields, tensors, base);
      tensors.finish();
      const content = loraAdapter(hash, await buildLayers(base.architecture, plans, pacer));
      return { content, targetModules: projectionsOf(plans) };
    }
  }
}

function planSites(
  type: 'LORA' | 'IA3' | 'LOHA' | 'LOKR' | 'BITFIT',
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
    case 'BITFIT':
      return planBitfit(fields, tensors, base);
  }
}

function checkOrigin({ metadata }: PeftTensors, base: AdapterBase): void {
  const baseHash = metadata.get(BASE_HASH_METADATA) ?? base.baseHash;
  if (baseHash !== base.baseHash)
    throw baseMismatch(
      `${WEIGHTS_FILE} was made for the base with hash ${baseHash}, ${base.name} has ${base.baseHash}; serve that base, or train again`,
      BASE_HASH_METADATA,
    );
  checkRopeOrigin(metadata, base);
  const template = metadata.get(CHAT_TEMPLATE_METADATA);
  if (template === undefined || base.chatTemplateHash === undefined || template === base.chatTemplateHash)
    return;
  throw baseMismatch(
    `${WEIGHTS_FILE} was trained with the chat template of sha256 ${template}, that of ${base.name} is ${base.chatTemplateHash ?? 'none'}; ` +
      'serve the base with that template, or train again',
    CHAT_TEMPLATE_METADATA,
  );
}
