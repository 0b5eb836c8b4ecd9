// Which projections of the base an adapter's configuration selects: PEFT's rules for target_modules, exclude_modules and
// layers_to_transform (peft/tuners/tuners_utils.py, check_target_module_exists). Says nothing about tensors.

import { type Architecture, PROJECTIONS } from '../model/architecture.js';
import { type Site, site } from './base.js';
import { CONFIG_FILE } from './adapter-files.js';
import { type ConfigFields, layersField, namesField, valueText } from './config-fields.js';
import { matchPatterns } from './module-patterns.js';
import { invalidAdapter, unsupportedAdapter } from './refusal.js';

const TARGETS = 'target_modules';

/** All projections of all blocks, in order. */
export function allSites(arch: Architecture): Site[] {
  return Array.from({ length: arch.numLayers }, (_, layer) =>
    PROJECTIONS.map((projection) => site(layer, projection)),
  ).flat();
}

/**
 * The targeted projections. `defaults` stand in where target_modules is null.
 * Throws unsupported_adapter where a module is targeted that is no projection, invalid_adapter where nothing is.
 */
export function targetSites(
  fields: ConfigFields,
  arch: Architecture,
  defaults: readonly string[],
): readonly Site[] {
  const sites = allSites(arch);
  const others = otherModules(arch);
  const names = [...sites.map((entry) => entry.module), ...others];
  const targets = namesField(fields, TARGETS) ?? defaults;
  const excluded = selectNames('exclude_modules', namesField(fields, 'exclude_modules') ?? [], names);
  const inLayers = layerFilter(fields, typeof targets === 'string', names);
  const selected =
    targets === 'all-linear'
      ? new Set(sites.map((entry) => entry.module))
      : selectNames(TARGETS, targets, names);
  const isTargeted = (name: string) => selected.has(name) && !excluded.has(name) && inLayers(name);
  const foreign = others.find(isTargeted);
  if (foreign !== undefined)
    throw unsupportedAdapter(
      `${CONFIG_FILE}: \`${TARGETS}\` selects ${foreign}; adapters of ${PROJECTIONS.join(', ')} are served: train without the others`,
      TARGETS,
    );
  const targeted = sites.filter((entry) => isTargeted(entry.module));
  if (targeted.length === 0)
    throw invalidAdapter(
      `${CONFIG_FILE}: \`${TARGETS}\` ${valueText(targets)} selects no module of the base; it has ${PROJECTIONS.join(', ')}`,
      TARGETS,
    );
  return targeted;
}

/** A list's entries match whole names and suffixes after a dot, a string is a regular expression for whole names. */
function selectNames(
  key: string,
  selector: string | readonly string[],
  names: readonly string[],
): ReadonlySet<string> {
  if (typeof selector === 'string') {
    if (selector === '') return new Set();
    const [matched] = matchPatterns(key, [selector], names, 'whole');
    return new Set(names.filter((_, index) => matched![index]));
  }
  const entries = new Set(selector);
  return new Set(names.filter((name) => suffixes(name).some((suffix) => entries.has(suffix))));
}

/** `a.b.c` -> `a.b.c`, `b.c`, `c` */
function suffixes(name: string): string[] {
  const parts = name.split('.');
  return parts.map((_, index) => parts.slice(index).join('.'));
}

function layerFilter(
  fields: ConfigFields,
  isPattern: boolean,
  names: readonly string[],
): (name: string) => boolean {
  const layers = layersField(fields, 'layers_to_transform');
  const given = namesField(fields, 'layers_pattern') ?? [];
  const patterns = (typeof given === 'string' ? [given] : given).filter((pattern) => pattern !== '');
  if (layers === null && patterns.length === 0) return () => true;
  if (layers === null || isPattern)
    throw invalidAdapter(
      `${CONFIG_FILE}: \`layers_pattern\` needs \`layers_to_transform\`, and both need \`${TARGETS}\` to be a list`,
      'layers_to_transform',
    );
  const matched = matchPatterns('layers_pattern', patterns, names, 'layer');
  const anyPattern = new Set(
    names.filter((_, index) => patterns.length === 0 || matched.some((row) => row[index])),
  );
  return (name) => {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    return layer !== undefined && anyPattern.has(name) && layers.includes(Number(layer));
  };
}

/** What a checkpoint of these families has beside its projections. */
function otherModules(arch: Architecture): string[] {
  const norms = ['input_layernorm', 'post_attention_layernorm'];
  if (arch.qkNorm) norms.push('self_attn.q_norm', 'self_attn.k_norm');
  const layers = Array.from({ length: arch.numLayers }, (_, layer) =>
    norms.map((norm) => `model.layers.${layer}.${norm}`),
  ).flat();
  return ['lm_head', 'model.embed_tokens', 'model.norm', ...layers];
}
