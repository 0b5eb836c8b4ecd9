// The rotary embedding's part of a config.json: `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4).
// Defaults are those of transformers' modeling_rope_utils.py.

import type { RopeScaling } from './architecture.js';
import type { Fields } from './fields.js';

const DEFAULT_THETA = 10000;
/** Keys that each type reads, besides those of all types. */
const KEYS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ['factor'],
  dynamic: ['factor', 'original_max_position_embeddings'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
  yarn: [
    'factor',
    'original_max_position_embeddings',
    'beta_fast',
    'beta_slow',
    'attention_factor',
    'mscale',
    'mscale_all_dim',
    'truncate',
  ],
};
const KEYS_OF_ALL = ['type', 'rope_type', 'rope_theta', 'partial_rotary_factor'];

/** Throws unsupported_model for another type or a key that the type does not read. */
export function ropeFromConfig(
  config: Fields,
  contextLength: number,
): { readonly ropeTheta: number; readonly ropeScaling: RopeScaling | null } {
  const parameters = config.object('rope_parameters') ?? config.object('rope_scaling');
  const configTheta = config.positive('rope_theta', DEFAULT_THETA);
  if (parameters === null) return { ropeTheta: configTheta, ropeScaling: null };
  const ropeTheta = parameters.positive('rope_theta', configTheta);
  const type = typeOf(parameters);
  const ropeScaling = scalingOf(type, parameters, {
    contextLength,
    originalContextLength: config.count('original_max_position_embeddings', contextLength),
  });
  return { ropeTheta, ropeScaling };
}

function typeOf(parameters: Fields): string {
  const typeKey = parameters.has('rope_type') ? 'rope_type' : 'type';
  const type = parameters.text(typeKey, 'default');
  const keys = KEYS_OF_TYPE[type];
  if (keys === undefined) throw parameters.unsupported(typeKey, Object.keys(KEYS_OF_TYPE).join(', '));
  const known = new Set([...KEYS_OF_ALL, ...keys]);
  for (const key of parameters.keys())
    if (!known.has(key) && parameters.get(key) !== null)
      throw parameters.unsupported(key, [...known].join(', '));
  if (![null, 1].includes(parameters.get('partial_rotary_factor') as number | null))
    throw parameters.unsupported('partial_rotary_factor', '1');
  return type;
}

function scalingOf(
  type: string,
  parameters: Fields,
  lengths: { readonly contextLength: number; readonly originalContextLength: number },
): RopeScaling | null {
  switch (type) {
    case 'linear':
      return { type, factor: parameters.positive('factor') };
    case 'dynamic':
      // transformers scales relative to max_position_embeddings, whatever original_max_position_embeddings says.
      return { type, factor: parameters.positive('factor'), originalContextLength: lengths.contextLength };
    case 'llama3':
      return {
        type,
        factor: parameters.positive('factor'),
        lowFreqFactor: parameters.positive('low_freq_factor'),
        highFreqFactor: parameters.positive('high_freq_factor'),
        originalContextLength: parameters.count(
          'original_max_position_embeddings',
          lengths.originalContextLength,
        ),
      };
    case 'yarn':
      return yarnOf(parameters, lengths.contextLength, lengths.originalContextLength);
    default:
      return null;
  }
}

function yarnOf(parameters: Fields, contextLength: number, originalFallback: number): RopeScaling {
  if (!parameters.flag('truncate', true)) throw parameters.unsupported('truncate', 'true');
  const originalContextLength = parameters.count('original_max_position_embeddings', originalFallback);
  const factor = parameters.positive('factor', contextLength / originalContextLength);
  return {
    type: 'yarn',
    factor,
    originalContextLength,
    betaFast: parameters.positive('beta_fast', 32),
    betaSlow: parameters.positive('beta_slow', 1),
    attentionFactor: parameters.positive('attention_factor', yarnAttentionFactor(parameters, factor)),
  };
}

function yarnAttentionFactor(parameters: Fields, factor: number): number {
  const mscale = parameters.get('mscale');
  const mscaleAllDim = parameters.get('mscale_all_dim');
  if (typeof mscale === 'number' && typeof mscaleAllDim === 'number' && mscale !== 0 && mscaleAllDim !== 0)
    return yarnMscale(factor, mscale) / yarnMscale(factor, mscaleAllDim);
  return yarnMscale(factor, 1);
}

/** Section 3.4 of the YaRN paper (arXiv 2309.00071): the attention's temperature as a factor on cos and sin. */
export function yarnMscale(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}
