// llama3's rotary scaling, found again in the frequency factors that a GGUF file has in its place.

import type { Architecture, RopeScaling } from './architecture.js';
import { ropeFrequencies } from './rope.js';

/** Parameters of every Llama 3.1, 3.2 and 3.3 but the factor, which is the factor of the slowest pair. */
const KNOWN = { lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 } as const;
/** Factors are stored in f32, computed by others in f32. */
const TOLERANCE = 1e-4;

/** The scaling whose factors these are, [headDim / 2], or null where they are of no known one. */
export function llama3Scaling(arch: Architecture, factors: readonly number[]): RopeScaling | null {
  const factor = Math.max(...factors);
  const rounded = Math.abs(factor - Math.round(factor)) < TOLERANCE ? Math.round(factor) : factor;
  const scaling: RopeScaling = { type: 'llama3', factor: rounded, ...KNOWN };
  const plain = ropeFrequencies({ ...arch, ropeScaling: null }, arch.contextLength);
  const scaled = ropeFrequencies({ ...arch, ropeScaling: scaling }, arch.contextLength);
  const fits = factors.every(
    (value, pair) => Math.abs(plain[pair]! / scaled[pair]! / value - 1) <= TOLERANCE,
  );
  return fits ? scaling : null;
}
