// DoRA (https://arxiv.org/abs/2402.09353): each output row of W + s B A is brought to a trained length. As a factor on the output this is
// magnitude / ||row||; the base's own bias stays outside of it (peft/tuners/lora/dora.py).

import { CONFIG_FILE } from './adapter-files.js';
import type { Site } from './base.js';
import { invalidAdapter } from './refusal.js';

/** Magnitudes are stored in f32 and norms depend on the order of summation: closer to 1 than this is 1. */
const TOLERANCE = 1e-5;

/** The factors [out] for the lengths of the rows, or null where all are 1. Throws invalid_adapter for a row without a length. */
export function doraScale(site: Site, lengths: Float64Array, magnitude: Float32Array): Float32Array | null {
  const factors = magnitude.map((wanted, row) => {
    const factor = wanted / lengths[row]!;
    if (Number.isFinite(factor) && Number.isFinite(lengths[row])) return factor;
    throw invalidAdapter(
      `${CONFIG_FILE}: \`use_dora\`: row ${row} of ${site.module} has length ${lengths[row]}, so that it cannot be scaled to ${wanted}`,
      'use_dora',
    );
  });
  return factors.every((factor) => Math.abs(factor - 1) <= TOLERANCE) ? null : factors;
}
