// What adapters add to a group of projections: low-rank updates of the rows that have one, and per-row scales and biases.
// R rank (of the batch's widest adapter), K inputs, N outputs, P projections a group. Every form takes the same bank:
// A [G, K, P*R] (the projections' A side by side) and one B [G, R, N] a projection.

import { int, NATIVE, type GraphBuilder } from '../graph/builder.js';
import { toAdapters, toRows, type BankForm } from './adapter-routing.js';

export interface GroupShape {
  /** Unique prefix: `layers.3.qkv`. */
  readonly name: string;
  readonly inputSize: number;
  readonly outputSizes: readonly number[];
}

/** y plus the low-rank update of x, [B, S, N]. */
export function addLora(
  graph: GraphBuilder,
  form: BankForm,
  x: string,
  y: string,
  group: GroupShape,
): string {
  if (form === 'none') return y;
  const name = `lora.${group.name}`;
  if (form === 'rows' || form === 'rows16') {
    const type = form === 'rows' ? 'f32' : 'f16';
    const a = graph.input(`${name}.a`, type, ['lora.G', group.inputSize, `R${group.outputSizes.length}`]);
    const b = group.outputSizes.map((size, i) => graph.input(`${name}.b${i}`, type, ['lora.G', 'R', size]));
    const attributes = { half: int(form === 'rows' ? 0 : 1) };
    return graph.node('LowRankUpdate', `${name}.sum`, [y, x, 'lora.adapters', a, ...b], attributes, NATIVE);
  }
  const delta = lowRank(graph, toAdapters(graph, 'lora', form, x, name), group, name);
  return graph.node('Add', `${name}.sum`, [y, toRows(graph, 'lora', form, delta, name)]);
}

/** y * outScale + bias, by row. Names of the inputs: `affine.${group}.out_scale`, `.bias` [B, 1, N]. */
export function addAffine(graph: GraphBuilder, y: string, group: GroupShape): string {
  const size = group.outputSizes.reduce((sum, n) => sum + n, 0);
  const scale = graph.input(`affine.${group.name}.out_scale`, 'f32', ['B', 1, size]);
  const bias = graph.input(`affine.${group.name}.bias`, 'f32', ['B', 1, size]);
  const scaled = graph.node('Mul', `affine.${group.name}.scaled`, [y, scale]);
  return graph.node('Add', `affine.${group.name}.y`, [scaled, bias]);
}

/** x * inScale, by row. Name of the input: `affine.${group}.in_scale` [B, 1, K]. */
export function scaleInput(graph: GraphBuilder, x: string, group: GroupShape): string {
  const scale = graph.input(`affine.${group.name}.in_scale`, 'f32', ['B', 1, group.inputSize]);
  return graph.node('Mul', `affine.${group.name}.x`, [x, scale]);
}

function lowRank(graph: GraphBuilder, x: string, group: GroupShape, name: string): string {
  const numParts = group.outputSizes.length;
  const a = graph.input(`${name}.a`, 'f32', ['lora.G', group.inputSize, `R${numParts}`]);
  const down = graph.node('MatMul', `${name}.down`, [x, a]);
  const masked = graph.node('Mul', `${name}.masked`, [down, 'lora.mask']);
  const parts =
    numParts === 1
      ? [masked]
      : graph.nodeN('Split', `${name}.part`, [masked], [...group.outputSizes.keys()], {
          axis: int(-1),
          num_outputs: int(numParts),
        });
  const deltas = group.outputSizes.map((size, i) =>
    graph.node('MatMul', `${name}.delta${i}`, [
      parts[i]!,
      graph.input(`${name}.b${i}`, 'f32', ['lora.G', 'R', size]),
    ]),
  );
  return numParts === 1 ? deltas[0]! : graph.node('Concat', `${name}.delta`, deltas, { axis: int(-1) });
}
