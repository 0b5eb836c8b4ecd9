// Bottleneck adapters (Houlsby et al., arXiv 1902.00751) after the attention and after the MLP of each block. Down begins as PyTorch's
// Linear layers do, up and the biases at zero: training begins at the base.

import { ACTIVATION, bottleneckModule } from '../../adapters/bottleneck.js';
import { BOTTLENECK_PLACES } from '../../model/bottleneck-nodes.js';
import { blockInputs, NO_ADDITIONS } from '../graphs/block-inputs.js';
import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import { uniform } from '../random-numbers.js';
import type { TrainingMethod } from '../types.js';
import { blockMethod, type BlockParameter } from './block-parameters.js';
import { manifestFiles, type MethodBase, PEFT_PREFIX, tensorsOf } from './peft-files.js';

export type BottleneckOptions = MethodOptions & { readonly name: 'bottleneck' };

const PARTS = ['down.weight', 'down.bias', 'up.weight', 'up.bias'] as const;

export function createBottleneckMethod(
  base: MethodBase,
  { size }: BottleneckOptions,
  seed: number,
): TrainingMethod {
  const { numLayers, hiddenSize } = base.architecture;
  const additions = { ...NO_ADDITIONS, bottleneck: { size } };
  const shapes = blockInputs(base.architecture, additions);
  const parameters = Array.from({ length: numLayers }, (_, layer) =>
    BOTTLENECK_PLACES.map((place, index) =>
      PARTS.map((part): BlockParameter => {
        const input = `bottleneck.${place}.${part}`;
        const shape = shapes.get(input)!;
        const count = shape.reduce((product, dim) => product * dim, 1);
        const values =
          part === 'down.weight'
            ? uniform(count, 1 / Math.sqrt(hiddenSize), seed, layer, index)
            : new Float32Array(count);
        const name = `${PEFT_PREFIX}${bottleneckModule(layer, place)}_${part}`;
        const parameter = createParameter(name, shape, values, { decay: part.endsWith('weight') });
        return { layer, input, parameter };
      }),
    ),
  ).flat(2);
  const method = blockMethod(parameters, numLayers);
  const config = { bottleneck_size: size, activation: ACTIVATION };
  return {
    ...method,
    name: 'bottleneck',
    additions,
    files: () => Promise.resolve(manifestFiles(base, 'bottleneck', config, tensorsOf(method.parameters))),
  };
}
