// Adapters made of changes to projections, as a whole: their size and rank counted, and what else they have.

import { arraysOf } from './site-plan.js';
import type { LayerDelta, LoraAdapter } from './types.js';

/** An adapter of these layers; what else is known of it is counted here, once. */
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
  const hasAffine = layers.some(({ affine }) => Object.keys(affine).length > 0);
  return { kind: 'lora', hash, sizeBytes, maxRank, hasAffine, layers };
}
