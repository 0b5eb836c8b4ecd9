// LoRA as PEFT stores it: A [r, in], B [out, r], scale alpha / r (rslora: alpha / sqrt(r)), with rsLoRA, DoRA, biases of B and trained
// biases of the base's modules. Reference: peft/tuners/lora/layer.py and dora.py.

import { type Projection, projectionShape } from '../model/architecture.js';
import { CONFIG_FILE } from './adapter-files.js';
import { type AdapterBase, type Site } from './base.js';
import { type ConfigFields, countField, flagField, numberField, valueText } from './config-fields.js';
import { doraScale } from './dora.js';
import { isZero, lowRankDelta, type Matrix } from './low-rank.js';
import type { Pacer } from './pacer.js';
import { type AdapterTensor, ofAdapter, ofBase, type PeftTensors } from './peft-tensors.js';
import { invalidAdapter } from './refusal.js';
import { createRowLengths, type RowLengths } from './row-lengths.js';
import { ranksAndAlphas, type SiteDelta, type SitePlan } from './site-plan.js';
import { allSites, targetSites } from './target-modules.js';

const DEFAULT_TARGETS: readonly Projection[] = ['q_proj', 'v_proj'];

export function planLora(fields: ConfigFields, tensors: PeftTensors, base: AdapterBase): readonly SitePlan[] {
  const options = loraOptions(fields);
  const targets = targetSites(fields, base.architecture, DEFAULT_TARGETS);
  const scales = ranksAndAlphas(fields, targets, { rank: options.rank, alpha: options.alpha });
  const rowLengths = options.dora ? createRowLengths() : null;
  const plans = targets.map((site, index) => {
    const { rank, alpha } = scales[index]!;
    const scale = alpha / (options.rslora ? Math.sqrt(rank) : rank);
    return planTarget(site, rank, scale, options, tensors, base, rowLengths);
  });
  const targeted = new Set(targets.map((site) => site.module));
  const others = options.bias === 'all' ? allSites(base.architecture) : [];
  const biases = others
    .filter((site) => !targeted.has(site.module))
    .map((site) => planBias(site, tensors, base))
    .filter((plan) => plan !== null);
  return [...plans, ...biases];
}

interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  readonly rslora: boolean;
  readonly dora: boolean;
  readonly loraBias: boolean;
  readonly bias: 'none' | 'all' | 'lora_only';
}

function loraOptions(fields: ConfigFields): LoraOptions {
  const bias = fields.bias ?? 'none';
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only')
    throw invalidAdapter(
      `${CONFIG_FILE}: Expected \`bias\` to be none, all or lora_only, got ${valueText(bias)}`,
      'bias',
    );
  const options = {
    rank: countField(fields, 'r', 8),
    alpha: numberField(fields, 'lora_alpha', 8),
    rslora: flagField(fields, 'use_rslora'),
    dora: flagField(fields, 'use_dora'),
    loraBias: flagField(fields, 'lora_bias'),
    bias,
  } as const;
  if (options.dora && options.loraBias)
    throw invalidAdapter(
      `${CONFIG_FILE}: \`use_dora\` and \`lora_bias\` exclude each other; set one to false`,
      'lora_bias',
    );
  return options;
}

function planTarget(
  site: Site,
  rank: number,
  scale: number,
  options: LoraOptions,
  tensors: PeftTensors,
  base: AdapterBase,
  rowLengths: RowLengths | null,
): SitePlan {
  const [out, input] = projectionShape(base.architecture, site.projection);
  const a = tensors.take(`${site.module}.lora_A.weight`, [ofAdapter(rank), ofBase(input)]);
  const b = tensors.take(`${site.module}.lora_B.weight`, [ofBase(out), ofAdapter(rank)]);
  const addedBias = options.loraBias ? tensors.take(`${site.module}.lora_B.bias`, [ofBase(out)]) : null;
  const dora = rowLengths === null ? null : planDora(site, rowLengths, tensors, base);
  const trainedBias =
    options.bias === 'none' ? null : takeBias(site, ['base_layer.bias', 'bias'], tensors, base);

  async function build(pacer: Pacer): Promise<SiteDelta> {
    const right = { rows: rank, cols: input, data: a.read() };
    const left = { rows: out, cols: rank, data: b.read() };
    const isNull = scale === 0 || isZero(right.data) || isZero(left.data);
    const outScale = dora === null ? null : await dora(left, right, scale, pacer);
    const bias = sumOrNull(
      trainedBias === null ? null : biasChange(site, trainedBias, base),
      addedBias === null ? null : addedBias.read().map((value) => value * scale),
    );
    const affine = outScale === null && bias === null ? null : { outScale, inScale: null, bias };
    return { lora: isNull ? null : lowRankDelta(left, right, scale), affine };
  }
  return { site, build };
}

/** The factors [out] on the output, or null where all are 1. */
function planDora(site: Site, rowLengths: RowLengths, tensors: PeftTensors, base: AdapterBase) {
  const [out] = projectionShape(base.architecture, site.projection);
  const magnitude = tensors.take(`${site.module}.lora_magnitude_vector`, [ofBase(out)]);
  return async (left: Matrix, right: Matrix, scale: number, pacer: Pacer): Promise<Float32Array | null> => {
    const lengths = await rowLengths(base.matrix(site.weightName), left, right, scale, pacer);
    return doraScale(site, lengths, magnitude.read());
  };
}

/** A trained bias of a module that has no low-rank update; null where the base has no bias there and the file holds none. */
function planBias(site: Site, tensors: PeftTensors, base: AdapterBase): SitePlan | null {
  const trained = takeBias(site, ['bias'], tensors, base);
  if (trained === null) return null;
  const build = (): Promise<SiteDelta> => {
    const bias = biasChange(site, trained, base);
    return Promise.resolve({
      lora: null,
      affine: bias === null ? null : { outScale: null, inScale: null, bias },
    });
  };
  return { site, build };
}

/** The first name is that of today's PEFT. A base with a bias requires it; one without takes the trained bias as it is. */
function takeBias(
  site: Site,
  names: readonly string[],
  tensors: PeftTensors,
  base: AdapterBase,
): AdapterTensor | null {
  const [out] = projectionShape(base.architecture, site.projection);
  for (const name of names)
    if (tensors.takeAny(`${site.module}.${name}`) !== null)
      return tensors.take(`${site.module}.${name}`, [ofBase(out)]);
  const isRequired = base.bias(site.weightName) !== null;
  return isRequired ? tensors.take(`${site.module}.${names[0]!}`, [ofBase(out)]) : null;
}

/** The file holds the bias that replaces the base's own; what is added on top of that one is the difference. */
function biasChange(site: Site, trained: AdapterTensor, base: AdapterBase): Float32Array | null {
  const own = base.bias(site.weightName);
  const change = trained.read().map((value, index) => value - (own?.[index] ?? 0));
  return isZero(change) ? null : change;
}

function sumOrNull(first: Float32Array | null, second: Float32Array | null): Float32Array | null {
  const sum =
    first === null || second === null
      ? (first ?? second)
      : first.map((value, index) => value + second[index]!);
  return sum === null || isZero(sum) ? null : sum;
}
