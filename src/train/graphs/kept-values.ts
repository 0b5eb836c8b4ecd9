// What stays in memory between a block's forward and backward pass, beside its input.

import type { Architecture } from '../../model/architecture.js';

/**
 * `nothing`: the backward pass computes the whole block again. `products`: it computes again what is cheap, from the outputs of the products.
 * `all`: it computes nothing again.
 */
export type Keeping = 'nothing' | 'products' | 'all';

/** With gradient checkpointing: all blocks of 256 tokens of a small base. */
const KEPT_BYTES = 160 * 2 ** 20;
const FLOAT_BYTES = 4;

/** Floats that are kept of a token with `products`; `ranks` is the sum of the ranks of a block's LoRA. */
export function keptWidth(
  { hiddenSize, numHeads, numKvHeads, headDim, intermediateSize }: Architecture,
  ranks: number,
): number {
  // q and what the heads give; k and v; o's output; gate and up. The backward pass does not read down's output.
  return 2 * numHeads * headDim + 2 * numKvHeads * headDim + hiddenSize + 2 * intermediateSize + ranks;
}

/** Of how many blocks the products are kept, of so many tokens held at once; the other blocks are computed again. */
export function numKeptBlocks(arch: Architecture, ranks: number, numTokens: number): number {
  return Math.min(
    arch.numLayers,
    Math.floor(KEPT_BYTES / (FLOAT_BYTES * numTokens * keptWidth(arch, ranks))),
  );
}
