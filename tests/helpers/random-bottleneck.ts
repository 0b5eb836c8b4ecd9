// Seeded random bottleneck adapters, as a serving adapter and as the files that hold the same values.
import type { BottleneckAdapter, BottleneckDelta } from '../../src/adapters/types.js';
import { randomStream } from '../../src/engine/random.js';
import type { Architecture } from '../../src/model/architecture.js';
import type { Tensor } from './adapter-fixtures.js';

export interface RandomBottleneckOptions {
  readonly size?: number;
  /** The size of the output's entries. */
  readonly strength?: number;
}

export function randomBottleneck(
  { numLayers, hiddenSize }: Architecture,
  seed: number,
  { size = 6, strength = 0.5 }: RandomBottleneckOptions = {},
): BottleneckAdapter {
  const random = randomStream(seed);
  const values = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, () => (2 * random() - 1) * scale);
  const delta = (): BottleneckDelta => ({
    down: values(hiddenSize * size, 2),
    downBias: values(size, 1),
    up: values(size * hiddenSize, strength),
    upBias: values(hiddenSize, strength),
  });
  const layers = Array.from({ length: numLayers }, () => ({ attention: delta(), mlp: delta() }));
  return { kind: 'bottleneck', hash: `bottleneck-${seed}-${size}-${strength}`, sizeBytes: 1, size, layers };
}

/** adapter_config.json of a bottleneck of these sizes. */
export function bottleneckConfig({ numLayers, hiddenSize }: Architecture, size: number) {
  return {
    format: 'adapter-manifest/1',
    method: 'bottleneck',
    base_model_name_or_path: 'tiny',
    num_layers: numLayers,
    hidden_size: hiddenSize,
    bottleneck_size: size,
    activation: 'silu',
  };
}

/** The adapter's tensors by their names in adapter_model.safetensors. */
export function bottleneckTensors({ layers, size }: BottleneckAdapter): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  layers.forEach((layer, index) =>
    (['attention', 'mlp'] as const).forEach((place) => {
      const { down, downBias, up, upBias } = layer[place];
      const hidden = upBias.length;
      const block = place === 'attention' ? 'self_attn' : 'mlp';
      const module = `base_model.model.model.layers.${index}.${block}.bottleneck`;
      tensors.set(`${module}_down.weight`, { shape: [size, hidden], data: transpose(down, hidden, size) });
      tensors.set(`${module}_down.bias`, { shape: [size], data: downBias });
      tensors.set(`${module}_up.weight`, { shape: [hidden, size], data: transpose(up, size, hidden) });
      tensors.set(`${module}_up.bias`, { shape: [hidden], data: upBias });
    }),
  );
  return tensors;
}

function transpose(values: Float32Array, rows: number, cols: number): Float32Array {
  return Float32Array.from(values, (_, at) => values[(at % rows) * cols + Math.floor(at / rows)]!);
}
