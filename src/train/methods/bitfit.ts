// BitFit (Ben Zaken et al., arXiv 2106.10199): a trained vector is added to each target's output, on top of the base's own bias. Training
// begins at the base.

import { BIAS_PARAMETER } from '../../adapters/bitfit.js';
import { PROJECTIONS, projectionPath, projectionShape } from '../../model/architecture.js';
import { NO_ADDITIONS } from '../graphs/block-inputs.js';
import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import type { TrainingMethod } from '../types.js';
import { blockMethod, type BlockParameter } from './block-parameters.js';
import { manifestFiles, type MethodBase, PEFT_PREFIX, tensorsOf } from './peft-files.js';

export type BitfitOptions = MethodOptions & { readonly name: 'bitfit' };

export function createBitfitMethod(base: MethodBase, options: BitfitOptions): TrainingMethod {
  const { architecture } = base;
  const targets = PROJECTIONS.filter((projection) => options.targets.includes(projection));
  const biases = Array.from({ length: architecture.numLayers }, (_, layer) =>
    targets.map((projection): BlockParameter => {
      const [out] = projectionShape(architecture, projection);
      const name = `${PEFT_PREFIX}model.layers.${layer}.${projectionPath(projection)}.${BIAS_PARAMETER}`;
      const parameter = createParameter(name, [out], new Float32Array(out), { decay: false });
      return { layer, input: `bias.${projection}`, parameter };
    }),
  ).flat();
  const method = blockMethod(biases, architecture.numLayers);
  return {
    ...method,
    name: 'bitfit',
    additions: { ...NO_ADDITIONS, biases: targets },
    files: () =>
      Promise.resolve(
        manifestFiles(base, 'bitfit', { target_modules: targets }, tensorsOf(method.parameters)),
      ),
  };
}
