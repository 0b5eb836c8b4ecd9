// LoRA (Hu et al., arXiv 2106.09685): each target's weight gets scale * B · A beside it. Also rsLoRA (arXiv 2312.03732: the scale falls
// with sqrt(r)) and LoRA+ (arXiv 2402.12354: B learns faster than A). Names, initial values and files are PEFT's.

import { type Projection, PROJECTIONS, projectionPath, projectionShape } from '../../model/architecture.js';
import { NO_ADDITIONS } from '../graphs/block-inputs.js';
import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import { uniform } from '../random-numbers.js';
import type { BlockAdditions, TrainingMethod } from '../types.js';
import { blockMethod, type BlockParameter } from './block-parameters.js';
import { type MethodBase, peftFiles, PEFT_PREFIX, tensorsOf } from './peft-files.js';

export type LoraOptions = MethodOptions & { readonly name: 'lora' };

/** A is Kaiming-uniform with a = sqrt(5) as in PEFT, that is, from [-1/sqrt(in), 1/sqrt(in)); B is zero: training begins at the base. */
export function createLoraMethod(base: MethodBase, options: LoraOptions, seed: number): TrainingMethod {
  const method = blockMethod(createFactors(base, options, seed), base.architecture.numLayers);
  return {
    ...method,
    name: 'lora',
    additions: loraAdditions(options),
    files: () => Promise.resolve(peftFiles(base, 'LORA', loraConfig(options), tensorsOf(method.parameters))),
  };
}

function loraAdditions({ rank, alpha, rslora, dropout, targets }: LoraOptions): BlockAdditions {
  const delta = { rank, scale: alpha / (rslora ? Math.sqrt(rank) : rank), dropout };
  const lora: Partial<Record<Projection, typeof delta>> = {};
  for (const projection of targets) lora[projection] = delta;
  return { ...NO_ADDITIONS, lora };
}

function createFactors(
  { architecture }: MethodBase,
  options: LoraOptions,
  seed: number,
): readonly BlockParameter[] {
  const { rank, targets, plusRatio } = options;
  const layers = Array.from({ length: architecture.numLayers }, (_, layer) => layer);
  return layers.flatMap((layer) =>
    PROJECTIONS.filter((projection) => targets.includes(projection)).flatMap((projection) => {
      const [out, input] = projectionShape(architecture, projection);
      const module = `${PEFT_PREFIX}model.layers.${layer}.${projectionPath(projection)}`;
      const key = [seed, layer, PROJECTIONS.indexOf(projection)];
      const a = uniform(rank * input, 1 / Math.sqrt(input), ...key);
      return [
        {
          layer,
          input: `lora.${projection}.a`,
          parameter: createParameter(`${module}.lora_A.weight`, [rank, input], a),
        },
        {
          layer,
          input: `lora.${projection}.b`,
          parameter: createParameter(`${module}.lora_B.weight`, [out, rank], new Float32Array(out * rank), {
            learningRateScale: plusRatio,
          }),
        },
      ];
    }),
  );
}

function loraConfig({ rank, alpha, rslora, dropout, targets }: LoraOptions) {
  return {
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: rslora,
    bias: 'none',
    target_modules: PROJECTIONS.filter((projection) => targets.includes(projection)),
  };
}
