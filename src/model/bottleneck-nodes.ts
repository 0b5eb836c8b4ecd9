// Bottleneck adapters (Houlsby and others, 2019, https://arxiv.org/abs/1902.00751): h + up(silu(down(h))) on the attention's output (after
// o_proj) and on the MLP's (after down_proj), each before it joins the residual stream; by row, from a bank as in adapter-routing.ts.

import { float, MICROSOFT, type GraphBuilder } from '../graph/builder.js';
import { toAdapters, toRows, type BankForm } from './adapter-routing.js';

/** Whose output it changes. */
export const BOTTLENECK_PLACES = ['attention', 'mlp'] as const;
export type BottleneckPlace = (typeof BOTTLENECK_PLACES)[number];

/**
 * h [B, S, H] with its rows' bottlenecks. Inputs `bottleneck.layers.{l}.{place}.down` [G, H, W], `.down_bias` [G, 1, W], `.up` [G, W, H],
 * `.up_bias` [G, 1, H], W being the width of the batch's widest bottleneck.
 */
export function addBottleneck(
  graph: GraphBuilder,
  form: BankForm,
  h: string,
  layer: number,
  place: BottleneckPlace,
  hiddenSize: number,
): string {
  if (form === 'none') return h;
  const name = `bottleneck.layers.${layer}.${place}`;
  const input = (suffix: string, rows: number | string, cols: number | string): string =>
    graph.input(`${name}.${suffix}`, 'f32', ['bottleneck.G', rows, cols]);
  const x = toAdapters(graph, 'bottleneck', form, h, name);
  const product = graph.node('MatMul', `${name}.down_y`, [x, input('down', hiddenSize, 'W')]);
  const down = graph.node('Add', `${name}.down_sum`, [product, input('down_bias', 1, 'W')]);
  const units = graph.node('QuickGelu', `${name}.silu`, [down], { alpha: float(1) }, MICROSOFT);
  const wide = graph.node('MatMul', `${name}.up_y`, [units, input('up', 'W', hiddenSize)]);
  const up = graph.node('Add', `${name}.up_sum`, [wide, input('up_bias', 1, hiddenSize)]);
  const masked = graph.node('Mul', `${name}.masked`, [up, 'bottleneck.mask']);
  return graph.node('Add', `${name}.sum`, [h, toRows(graph, 'bottleneck', form, masked, name)]);
}
