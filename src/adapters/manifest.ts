// adapter_config.json of the methods that PEFT has no format for: `format` names the version of the manifest, `method` the method.
// What the keys mean is in docs/adapter-format.md; the tensors are read by bitfit.ts and bottleneck.ts.

import { CONFIG_FILE } from './adapter-files.js';
import { type ConfigFields, valueText } from './config-fields.js';
import { unsupportedAdapter } from './refusal.js';

export const MANIFEST_FORMAT = 'adapter-manifest/1';

/** `method` -> what AdapterInfo.peftType says. */
const TYPES = { bitfit: 'BITFIT', bottleneck: 'BOTTLENECK' } as const;
export type ManifestMethod = keyof typeof TYPES;
export type ManifestType = (typeof TYPES)[ManifestMethod];

const COMMON_KEYS = ['format', 'method', 'base_model_name_or_path', 'num_layers', 'hidden_size'] as const;
const OWN_KEYS: Readonly<Record<ManifestMethod, readonly string[]>> = {
  bitfit: ['target_modules'],
  bottleneck: ['bottleneck_size', 'activation'],
};

export function isManifest(fields: ConfigFields): boolean {
  return Object.hasOwn(fields, 'format');
}

/** The method, once every key is known. Throws unsupported_adapter naming the key. */
export function checkManifestKeys(fields: ConfigFields): ManifestType {
  if (fields.format !== MANIFEST_FORMAT)
    throw unsupportedAdapter(
      `${CONFIG_FILE}: Expected \`format\` to be ${MANIFEST_FORMAT}, got ${valueText(fields.format)}`,
      'format',
    );
  const { method } = fields;
  if (method !== 'bitfit' && method !== 'bottleneck')
    throw unsupportedAdapter(
      `${CONFIG_FILE}: Expected \`method\` to be ${Object.keys(TYPES).join(' or ')}, got ${valueText(method)}`,
      'method',
    );
  const known: readonly string[] = [...COMMON_KEYS, ...OWN_KEYS[method]];
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined)
    throw unsupportedAdapter(
      `${CONFIG_FILE}: \`${unknown}\` is ${valueText(fields[unknown])}: a manifest of ${method} has the keys ${known.join(', ')}`,
      unknown,
    );
  return TYPES[method];
}
