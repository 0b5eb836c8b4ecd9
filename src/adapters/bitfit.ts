// BitFit (Ben Zaken and others, 2021, https://arxiv.org/abs/2106.10199) on projections: a trained vector added to a projection's output, on
// top of the base's own bias where it has one. So a base without biases can be adapted too.

import { projectionShape } from '../model/architecture.js';
import type { AdapterBase } from './base.js';
import { checkBaseSizes, type ConfigFields } from './config-fields.js';
import { isZero } from './low-rank.js';
import { ofBase, type PeftTensors } from './peft-tensors.js';
import type { SitePlan } from './site-plan.js';
import { targetSites } from './target-modules.js';

/** The parameter of a module that holds its vector. */
export const BIAS_PARAMETER = 'bias_delta';

export function planBitfit(
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
): readonly SitePlan[] {
  const { numLayers, hiddenSize } = base.architecture;
  checkBaseSizes(fields, { num_layers: numLayers, hidden_size: hiddenSize });
  return targetSites(fields, base.architecture, []).map((site) => {
    const [out] = projectionShape(base.architecture, site.projection);
    const tensor = tensors.take(`${site.module}.${BIAS_PARAMETER}`, [ofBase(out)]);
    const build = () => {
      const bias = tensor.read();
      const affine = isZero(bias) ? null : { outScale: null, inScale: null, bias };
      return Promise.resolve({ lora: null, affine });
    };
    return { site, build };
  });
}
