// Names and shapes of what a method adds to a block: the inputs that have gradients, and the masks that have none.

import {
  type Architecture,
  type Projection,
  PROJECTIONS,
  projectionShape,
} from '../../model/architecture.js';
import { BOTTLENECK_PLACES } from '../../model/bottleneck-nodes.js';
import type { Shape } from '../autodiff/shapes.js';
import type { BlockAdditions } from '../types.js';

export const NO_ADDITIONS: BlockAdditions = {
  lora: {},
  biases: [],
  bottleneck: null,
  numPrefixTokens: 0,
  full: false,
};

/** The inputs that a method gives to every block and gets gradients of, by name, in a fixed order. */
export function blockInputs(arch: Architecture, additions: BlockAdditions): ReadonlyMap<string, Shape> {
  const inputs = new Map<string, Shape>();
  if (additions.full) for (const [name, shape] of ownWeights(arch)) inputs.set(name, shape);
  for (const projection of PROJECTIONS) {
    const [out, input] = projectionShape(arch, projection);
    const lora = additions.lora[projection];
    if (lora)
      inputs.set(`lora.${projection}.a`, [lora.rank, input]).set(`lora.${projection}.b`, [out, lora.rank]);
    if (additions.biases.includes(projection)) inputs.set(`bias.${projection}`, [out]);
  }
  if (additions.bottleneck !== null)
    for (const place of BOTTLENECK_PLACES)
      for (const [name, shape] of bottleneckWeights(arch.hiddenSize, additions.bottleneck.size))
        inputs.set(`bottleneck.${place}.${name}`, shape);
  if (additions.numPrefixTokens > 0)
    for (const kind of ['k', 'v'])
      inputs.set(`prefix.${kind}`, [arch.numKvHeads, additions.numPrefixTokens, arch.headDim]);
  return inputs;
}

/** The block's norms, and their sizes. */
export function blockNorms(arch: Architecture): ReadonlyMap<string, number> {
  const norms = new Map([
    ['input_layernorm', arch.hiddenSize],
    ['post_attention_layernorm', arch.hiddenSize],
  ]);
  return arch.qkNorm ? norms.set('q_norm', arch.headDim).set('k_norm', arch.headDim) : norms;
}

export function hasBias(arch: Architecture, projection: Projection): boolean {
  switch (projection) {
    case 'q_proj':
    case 'k_proj':
    case 'v_proj':
      return arch.qkvBias;
    case 'o_proj':
      return arch.outputBias;
    case 'gate_proj':
    case 'up_proj':
    case 'down_proj':
      return arch.mlpBias;
  }
}

function ownWeights(arch: Architecture): readonly (readonly [string, Shape])[] {
  return [
    ...PROJECTIONS.map((projection) => [`weight.${projection}`, projectionShape(arch, projection)] as const),
    ...PROJECTIONS.filter((projection) => hasBias(arch, projection)).map(
      (projection) => [`bias.${projection}`, projectionShape(arch, projection).slice(0, 1)] as const,
    ),
    ...[...blockNorms(arch)].map(([norm, size]) => [`norm.${norm}`, [size]] as const),
  ];
}

function bottleneckWeights(hiddenSize: number, size: number): readonly (readonly [string, Shape])[] {
  return [
    ['down.weight', [size, hiddenSize]],
    ['down.bias', [size]],
    ['up.weight', [hiddenSize, size]],
    ['up.bias', [hiddenSize]],
  ];
}
