// The products of a block's projections: x · Wᵀ, with the biases and the low-rank products that are added to them.

import { int } from '../../graph/builder.js';
import { type Projection, projectionShape } from '../../model/architecture.js';
import type { Expressions } from '../autodiff/expressions.js';
import type { BlockSpec } from './block-graph.js';
import { hasBias } from './block-inputs.js';
import { frozenMatrix, frozenProduct } from './dequantize.js';

const FLOAT = 1;

export interface Projected {
  /** [B*S, out] of each projection. */
  readonly outputs: readonly string[];
  /** The products x · aᵀ that LoRA made on the way. */
  readonly lows: readonly string[];
}

/** x [B*S, in] through projections that have this input in common. */
export function project(
  e: Expressions,
  spec: BlockSpec,
  x: string,
  projections: readonly Projection[],
): Projected {
  const low = lowRank(e, spec, x, projections);
  const outputs = projections.map((projection) => {
    let y = ownProduct(e, spec, x, projection);
    if (hasBias(spec.arch, projection)) y = e.add(y, ownBias(e, spec, projection));
    const delta = low.deltas.get(projection);
    if (delta !== undefined) y = e.add(y, delta);
    return spec.additions.biases.includes(projection) ? e.add(y, `bias.${projection}`) : y;
  });
  return { outputs, lows: low.products };
}

interface LowRank {
  readonly deltas: ReadonlyMap<Projection, string>;
  readonly products: readonly string[];
}

/** LoRA's scale * (x · aᵀ) · bᵀ. The matrices a of projections that read the same values are multiplied as one. */
function lowRank(e: Expressions, spec: BlockSpec, x: string, projections: readonly Projection[]): LowRank {
  const { lora } = spec.additions;
  const targets = projections.filter((projection) => lora[projection] !== undefined);
  const deltas = new Map<Projection, string>();
  const products: string[] = [];
  for (const together of hasMasks(spec, targets) ? targets.map((target) => [target]) : [targets]) {
    if (together.length === 0) continue;
    const kept = dropped(e, spec, x, together[0]!);
    const matrices = together.map((each) => `lora.${each}.a`);
    const ranks = together.map((each) => lora[each]!.rank);
    const isOne = together.length === 1;
    const product = e.matmul(kept.x, isOne ? matrices[0]! : e.concat(matrices, 0), { transB: true });
    products.push(product);
    const lows = isOne ? [product] : e.split(product, ranks, 1);
    together.forEach((each, i) => {
      const alpha = lora[each]!.scale * kept.gain;
      // So that the gradient of b is a wide product, of [rank, B*S] and [B*S, out]: twice as fast as the other way round.
      deltas.set(each, e.matmul(lows[i]!, e.transpose(`lora.${each}.b`, [1, 0]), { alpha }));
    });
  }
  return { deltas, products };
}

/** Whether dropout gives each projection an input of its own. */
function hasMasks({ dropout, additions }: BlockSpec, targets: readonly Projection[]): boolean {
  return dropout && targets.some((target) => additions.lora[target]!.dropout > 0);
}

/** Each value zero or kept, and the factor that keeps the expectation. */
function dropped(
  e: Expressions,
  spec: BlockSpec,
  x: string,
  projection: Projection,
): { readonly x: string; readonly gain: number } {
  const { dropout } = spec.additions.lora[projection]!;
  if (!spec.dropout || dropout === 0) return { x, gain: 1 };
  const mask = e.graph.input(`dropout.${projection}`, 'u8', e.shape(x));
  return { x: e.mul(x, e.op('Cast', [mask], { to: int(FLOAT) })), gain: 1 / (1 - dropout) };
}

function ownProduct(
  e: Expressions,
  { arch, forms, precision }: BlockSpec,
  x: string,
  projection: Projection,
): string {
  const name = `weight.${projection}`;
  if (forms === null) return e.matmul(x, name, { transB: true });
  const matrix = frozenMatrix(e, name, forms[projection], projectionShape(arch, projection));
  return frozenProduct(e, x, matrix, precision);
}

function ownBias(e: Expressions, { arch, additions }: BlockSpec, projection: Projection): string {
  if (additions.full) return `bias.${projection}`;
  return e.graph.input(`base_bias.${projection}`, 'f32', projectionShape(arch, projection).slice(0, 1));
}
