// A method's gradients, summed over the groups of rows of a batch.

import type { Architecture } from '../model/architecture.js';
import { product } from './autodiff/shapes.js';
import type { ArrayPool } from './graphs/array-pool.js';
import { blockInputs } from './graphs/block-inputs.js';
import { addInto } from './parameters.js';
import type { BlockAdditions, BlockInputs, MethodGradients, MethodInputs } from './types.js';

/** Zeros of the shapes of the inputs, in arrays of the pool. */
export function zeroGradients(
  arch: Architecture,
  additions: BlockAdditions,
  { virtualTokens, ends }: MethodInputs,
  pool: ArrayPool,
): MethodGradients {
  const shapes = [...blockInputs(arch, additions)];
  const zeros = (length: number): Float32Array => pool.take(length).fill(0);
  const like = (values: Float32Array): Float32Array => zeros(values.length);
  return {
    blocks: Array.from(
      { length: arch.numLayers },
      () => new Map(shapes.map(([name, shape]) => [name, zeros(product(shape))])),
    ),
    virtualTokens: virtualTokens && like(virtualTokens),
    ends: ends && {
      embedding: like(ends.embedding),
      norm: like(ends.norm),
      head: ends.head && like(ends.head),
    },
  };
}

export function addBlockGradients(sums: MethodGradients, layer: number, gradients: BlockInputs): void {
  for (const [name, sum] of sums.blocks[layer]!) addInto(sum, gradients.get(name)!);
}

/** Nobody may use them any more. */
export function releaseGradients({ blocks, virtualTokens, ends }: MethodGradients, pool: ArrayPool): void {
  const arrays = [
    ...blocks.flatMap((block) => [...block.values()]),
    virtualTokens,
    ...Object.values(ends ?? {}),
  ];
  for (const array of arrays) if (array !== null) pool.give(array);
}
