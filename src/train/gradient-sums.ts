// A method's gradients, summed over the groups of rows of a batch.

import type { Architecture } from '../model/architecture.js';
import { product } from './autodiff/shapes.js';
import { blockInputs } from './graphs/block-inputs.js';
import { addInto } from './parameters.js';
import type { BlockAdditions, BlockInputs, MethodGradients, MethodInputs } from './types.js';

/** Zeros of the shapes of the inputs. */
export function zeroGradients(
  arch: Architecture,
  additions: BlockAdditions,
  { virtualTokens, ends }: MethodInputs,
): MethodGradients {
  const shapes = [...blockInputs(arch, additions)];
  const like = (values: Float32Array): Float32Array => new Float32Array(values.length);
  return {
    blocks: Array.from(
      { length: arch.numLayers },
      () => new Map(shapes.map(([name, shape]) => [name, new Float32Array(product(shape))])),
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
