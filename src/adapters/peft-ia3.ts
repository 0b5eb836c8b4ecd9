// IA3 as PEFT stores it: one trained factor for each output of a module, bias included, or for each input of a feed-forward module.
// Reference: peft/tuners/ia3/layer.py and model.py.

import { type Projection, projectionShape } from '../model/architecture.js';
import { type AdapterBase, type Site } from './base.js';
import { type ConfigFields, namesField } from './config-fields.js';
import { matchPatterns } from './module-patterns.js';
import { type AdapterTensor, ofAdapter, ofBase, type PeftTensors } from './peft-tensors.js';
import { unsupportedAdapter } from './refusal.js';
import type { SiteDelta, SitePlan } from './site-plan.js';
import { targetSites } from './target-modules.js';

export function planIa3(fields: ConfigFields, tensors: PeftTensors, base: AdapterBase): readonly SitePlan[] {
  const { family } = base.architecture;
  const attention: Projection = family === 'llama' || family === 'mistral' ? 'k_proj' : 'q_proj';
  const targets = targetSites(fields, base.architecture, [attention, 'v_proj', 'down_proj']);
  const isFeedForward = feedForwardTest(fields, targets);
  return targets.map((site) => {
    const [out, input] = projectionShape(base.architecture, site.projection);
    const scalesInput = isFeedForward(site);
    if (scalesInput) checkInputFactors(site);
    const dims = scalesInput ? [ofAdapter(1), ofBase(input)] : [ofBase(out), ofAdapter(1)];
    const factors = tensors.take(`${site.module}.ia3_l`, dims);
    const build = () =>
      Promise.resolve(scalesInput ? inputDelta(factors) : outputDelta(factors, base.bias(site.weightName)));
    return { site, build };
  });
}

/** Projections with an input of their own; the others share one, which cannot be scaled for one of them. */
const OWN_INPUT: readonly Projection[] = ['o_proj', 'down_proj'];

function checkInputFactors({ module, projection }: Site): void {
  if (OWN_INPUT.includes(projection)) return;
  throw unsupportedAdapter(
    `Expected \`feedforward_modules\` to name only modules that end in ${OWN_INPUT.join(' or ')}, got ${module}: ` +
      'input factors of the others are not served. Train with feedforward_modules ["down_proj"].',
    'feedforward_modules',
  );
}

/** A list's entries match any ending of the name, not only after a dot. */
function feedForwardTest(fields: ConfigFields, targets: readonly Site[]): (site: Site) => boolean {
  const key = 'feedforward_modules';
  const selector = namesField(fields, key) ?? ['down_proj'];
  if (typeof selector !== 'string') return ({ module }) => selector.some((entry) => module.endsWith(entry));
  const modules = targets.map((site) => site.module);
  const [matched] = matchPatterns(key, [selector], modules, 'whole');
  return ({ module }) => matched![modules.indexOf(module)]!;
}

function inputDelta(factors: AdapterTensor): SiteDelta {
  const inScale = factors.read();
  return { lora: null, affine: isOnes(inScale) ? null : { outScale: null, inScale, bias: null } };
}

/** l * (W x + c) = l * W x + c + (l - 1) * c, where c is the base's own bias. */
function outputDelta(factors: AdapterTensor, own: Float32Array | null): SiteDelta {
  const outScale = factors.read();
  if (isOnes(outScale)) return { lora: null, affine: null };
  const bias = own === null ? null : own.map((value, index) => (outScale[index]! - 1) * value);
  return { lora: null, affine: { outScale, inScale: null, bias } };
}

function isOnes(values: Float32Array): boolean {
  return values.every((value) => value === 1);
}
