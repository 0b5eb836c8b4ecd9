// The RoPE scaling that an adapter was trained under: it fits no other, since every position it has seen lies elsewhere.

import type { RopeScaling } from '../model/architecture.js';
import { WEIGHTS_FILE } from './adapter-files.js';
import type { AdapterBase } from './base.js';
import { baseMismatch } from './refusal.js';

/** Header metadata with ropeText(). Files without it come from elsewhere, and are not checked. */
export const ROPE_METADATA = 'rope_scaling';
const NONE = 'none';

/** "yarn:4" as `--rope-scaling` takes it, or "none". */
export function ropeText(scaling: RopeScaling | null): string {
  if (scaling === null) return NONE;
  return 'factor' in scaling ? `${scaling.type}:${scaling.factor}` : scaling.type;
}

/** Throws adapter_base_mismatch with the option that serves the adapter. */
export function checkRopeOrigin(
  metadata: ReadonlyMap<string, string>,
  { architecture, name }: AdapterBase,
): void {
  const served = ropeText(architecture.ropeScaling);
  const trained = metadata.get(ROPE_METADATA) ?? served;
  if (trained === served) return;
  const remedy = trained.includes(':') ? `with --rope-scaling ${trained}` : 'without --rope-scaling';
  throw baseMismatch(
    `${WEIGHTS_FILE} was trained with the RoPE scaling ${trained}, ${name} is served with ${served}; ` +
      `serve the base ${remedy}, or train again`,
    ROPE_METADATA,
  );
}
