// Between the methods (LoRA, IA3, LoHa, LoKr, BitFit) and the finished adapter: a method plans one entry for each projection it changes, with all
// tensors found and their shapes checked; building the plans reads the values, one projection at a time, and gathers them by layer.

import type { GatewayError } from '../errors.js';
import type { Architecture, Projection } from '../model/architecture.js';
import { CONFIG_FILE, WEIGHTS_FILE } from './adapter-files.js';
import type { Site } from './base.js';
import { type ConfigFields, patternField } from './config-fields.js';
import { firstNonFinite } from './finite.js';
import { matchPatterns } from './module-patterns.js';
import type { Pacer } from './pacer.js';
import { invalidAdapter } from './refusal.js';
import type { AffineDelta, LayerDelta, LoraDelta } from './types.js';

/** null is no change. */
export interface SiteDelta {
  readonly lora: LoraDelta | null;
  readonly affine: AffineDelta | null;
}

export interface SitePlan {
  readonly site: Site;
  build(pacer: Pacer): Promise<SiteDelta>;
}

/** Every projection's rank and alpha: the first pattern that matches it, else the default. */
export function ranksAndAlphas(
  fields: ConfigFields,
  sites: readonly Site[],
  defaults: { readonly rank: number; readonly alpha: number },
): readonly { readonly rank: number; readonly alpha: number }[] {
  const rank = firstMatches(fields, 'rank_pattern', 'count', sites);
  const alpha = firstMatches(fields, 'alpha_pattern', 'number', sites);
  return sites.map((_, index) => ({
    rank: rank[index] ?? defaults.rank,
    alpha: alpha[index] ?? defaults.alpha,
  }));
}

function firstMatches(
  fields: ConfigFields,
  key: string,
  kind: 'count' | 'number',
  sites: readonly Site[],
): (number | undefined)[] {
  const entries = patternField(fields, key, kind);
  const matched = matchPatterns(
    key,
    entries.map(([pattern]) => pattern),
    sites.map((entry) => entry.module),
    'suffix',
  );
  return sites.map((_, index) => entries[matched.findIndex((row) => row[index])]?.[1]);
}

/** Reads all values. Throws invalid_adapter where the adapter would change nothing, or where a scaled value overflows. */
export async function buildLayers(
  arch: Architecture,
  plans: readonly SitePlan[],
  pacer: Pacer,
): Promise<readonly LayerDelta[]> {
  const layers = Array.from({ length: arch.numLayers }, () => ({
    lora: {} as Partial<Record<Projection, LoraDelta>>,
    affine: {} as Partial<Record<Projection, AffineDelta>>,
  }));
  let hasEffect = false;
  for (const plan of plans) {
    const { site } = plan;
    const { lora, affine } = await plan.build(pacer);
    for (const values of arraysOf({ lora, affine })) {
      checkFinite(site, values);
      await pacer.spent(values.length);
    }
    const layer = layers[site.layer]!;
    if (lora !== null) layer.lora[site.projection] = lora;
    if (affine !== null) layer.affine[site.projection] = affine;
    hasEffect ||= lora !== null || affine !== null;
  }
  if (!hasEffect) throw changesNothing();
  return layers;
}

/** The names of the projections that the plans change. */
export function projectionsOf(plans: readonly SitePlan[]): string[] {
  return [...new Set(plans.map((plan) => plan.site.projection as string))].toSorted();
}

/** Every typed array of a projection's change. */
export function arraysOf({ lora, affine }: SiteDelta): Float32Array[] {
  return [lora?.a, lora?.b, affine?.outScale, affine?.inScale, affine?.bias].filter(
    (values) => values instanceof Float32Array,
  );
}

/** The refusal of an adapter that is the base itself. */
export function changesNothing(): GatewayError {
  return invalidAdapter(
    `${WEIGHTS_FILE}: the adapter changes nothing: all its updates are zero; save it after training`,
    WEIGHTS_FILE,
  );
}

function checkFinite(site: Site, values: Float32Array): void {
  if (firstNonFinite(values) < 0) return;
  throw invalidAdapter(
    `${WEIGHTS_FILE}: the update of ${site.module} is beyond f32 after its scale is applied; check alpha in ${CONFIG_FILE}`,
    site.module,
  );
}
