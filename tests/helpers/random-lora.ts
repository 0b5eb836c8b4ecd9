// Seeded random adapters for any architecture, as the PEFT reader would give them, and seeded prompts.
import { randomStream } from '../../src/engine/random.js';
import type { LayerDelta, LoraAdapter, LoraDelta } from '../../src/adapters/types.js';
import {
  PROJECTIONS,
  projectionShape,
  type Architecture,
  type Projection,
} from '../../src/model/architecture.js';

export interface RandomLoraOptions {
  readonly rank?: number;
  /** The size of the update's entries; 0 makes B zero. */
  readonly strength?: number;
  readonly projections?: readonly Projection[];
}

export function randomLora(arch: Architecture, seed: number, options: RandomLoraOptions = {}): LoraAdapter {
  const { rank = 4, strength = 0.3, projections = PROJECTIONS } = options;
  const random = randomStream(seed);
  const values = (size: number, scale: number): Float32Array =>
    Float32Array.from({ length: size }, () => (2 * random() - 1) * scale);
  const delta = (projection: Projection): LoraDelta => {
    const [out, input] = projectionShape(arch, projection);
    return { rank, a: values(input * rank, 1 / Math.sqrt(input)), b: values(rank * out, strength) };
  };
  const layers = Array.from({ length: arch.numLayers }, (): LayerDelta => ({
    lora: Object.fromEntries(projections.map((projection) => [projection, delta(projection)])),
    affine: {},
  }));
  return {
    kind: 'lora',
    hash: `random-${seed}-${rank}-${strength}-${projections.join('+')}`,
    sizeBytes: 0,
    maxRank: rank,
    hasAffine: false,
    layers,
  };
}

export function randomTokens(seed: number, count: number, vocabSize: number): number[] {
  const random = randomStream(seed);
  return Array.from({ length: count }, () => Math.floor(random() * vocabSize));
}
