// What a parameter of the frozen base takes, in bits, codes and scales together.
import type { FrozenWeights, Precision } from '../options.js';

/**
 * As a format. nf4: 4 bits, an 8-bit scale for 64 parameters, a 32-bit scale for 256 of those (QLoRA, arXiv 2305.14314, section 3): 4.127.
 * int4: 4 bits, and for 32 parameters a 32-bit scale and a 32-bit minimum.
 */
export const STORED_BITS: Readonly<Record<FrozenWeights, number>> = {
  f32: 32,
  int4: 4 + 32 / 32 + 32 / 32,
  nf4: 4 + 8 / 64 + 32 / (64 * 256),
};

/** As the trainer holds them while it runs: nf4 with its scales as floats, int4 with a byte for each code. */
export function heldBits(weights: FrozenWeights, precision: Precision): number {
  switch (weights) {
    case 'f32':
      return precision === 'bf16' ? 16 : 32;
    case 'int4':
      return 8 + 32 / 32 + 32 / 32;
    case 'nf4':
      return 4 + 32 / 64;
  }
}
