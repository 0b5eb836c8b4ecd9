// The projections of a block that share an input, multiplied together: one MatMulNBits where their storage allows it.
// `Weights` says where a graph's constants lie; this file only draws nodes.

import { float, int, MICROSOFT, NATIVE, type GraphBuilder } from '../graph/builder.js';
import type { Projection } from './architecture.js';

/** Projections with one input, in the order in which their outputs lie side by side. */
export const GROUPS = {
  qkv: ['q_proj', 'k_proj', 'v_proj'],
  o: ['o_proj'],
  gate_up: ['gate_proj', 'up_proj'],
  down: ['down_proj'],
} as const satisfies Record<string, readonly Projection[]>;
export type GroupName = keyof typeof GROUPS;
export const GROUP_NAMES = Object.keys(GROUPS) as readonly GroupName[];

/** Matrices of one storage kind, stacked along their rows. */
export interface PackedMatrix {
  readonly name: string;
  readonly kind: 'f32' | 'int4' | 'int8';
  readonly rows: number;
  readonly cols: number;
  readonly blockSize: number;
  /** Whether an initializer `${name}.minima` [ceil(cols / minimaBlockSize), rows] exists. */
  readonly minimaBlockSize: number | null;
  /** Laid out for the native kernels (native-layout.ts), minima and all, in `${name}.packed`; null: for the runtime's operators. */
  readonly native: { readonly half: boolean } | null;
}

/**
 * Nodes for x [..., cols] times the stacked matrices, side by side: [..., sum of rows].
 * The minima of a block (design of 4-bit exactness) contribute sum over blocks of minimum * (sum of x over the block).
 */
export function multiply(
  graph: GraphBuilder,
  x: string,
  name: string,
  packs: readonly PackedMatrix[],
): string {
  const sums = new Map<number, string>();
  const parts = packs.map((pack) => {
    const product = multiplyPack(graph, x, pack);
    if (pack.minimaBlockSize === null || pack.native !== null) return product;
    const size = pack.minimaBlockSize;
    if (!sums.has(size)) sums.set(size, blockSums(graph, x, `${name}.sums${size}`, pack.cols, size));
    const minima = graph.node('MatMul', `${pack.name}.minima_y`, [sums.get(size)!, `${pack.name}.minima`]);
    return graph.node('Add', `${pack.name}.exact_y`, [product, minima]);
  });
  return parts.length === 1 ? parts[0]! : graph.node('Concat', `${name}.y`, parts, { axis: int(-1) });
}

function multiplyPack(graph: GraphBuilder, x: string, pack: PackedMatrix): string {
  if (pack.kind === 'f32') return graph.node('MatMul', `${pack.name}.y`, [x, `${pack.name}.data`]);
  return pack.native === null
    ? multiplyQuantized(graph, x, pack)
    : multiplyNative(graph, x, pack, pack.native.half);
}

function multiplyNative(graph: GraphBuilder, x: string, pack: PackedMatrix, half: boolean): string {
  const attributes = {
    K: int(pack.cols),
    N: int(pack.rows),
    bits: int(pack.kind === 'int4' ? 4 : 8),
    half: int(half ? 1 : 0),
  };
  return graph.node('QuantizedLinear', `${pack.name}.y`, [x, `${pack.name}.packed`], attributes, NATIVE);
}

function multiplyQuantized(graph: GraphBuilder, x: string, pack: PackedMatrix): string {
  const attributes = {
    K: int(pack.cols),
    N: int(pack.rows),
    bits: int(pack.kind === 'int4' ? 4 : 8),
    block_size: int(pack.blockSize),
    accuracy_level: int(4),
  };
  return graph.node(
    'MatMulNBits',
    `${pack.name}.y`,
    [x, `${pack.name}.data`, `${pack.name}.scales`],
    attributes,
    MICROSOFT,
  );
}

/** Sums of x over blocks of columns, as a product with a 0/1 matrix [cols, blocks]. */
function blockSums(graph: GraphBuilder, x: string, name: string, cols: number, blockSize: number): string {
  const indicator = `block_indicator.${cols}.${blockSize}`;
  return graph.node('MatMul', name, [x, indicator]);
}

/** RMS norm of x. */
export function rmsNorm(
  graph: GraphBuilder,
  name: string,
  x: string,
  weight: string,
  epsilon: number,
): string {
  return graph.node('SimplifiedLayerNormalization', name, [x, weight], {
    axis: int(-1),
    epsilon: float(epsilon),
    stash_type: int(1),
  });
}

/** [RMS norm of (x + skip), x + skip]. */
export function skipRmsNorm(
  graph: GraphBuilder,
  name: string,
  x: string,
  skip: string,
  weight: string,
  epsilon: number,
): [string, string] {
  const [normed, sum] = graph.nodeN(
    'SkipSimplifiedLayerNormalization',
    name,
    [x, skip, weight],
    [0, 3],
    { epsilon: float(epsilon) },
    MICROSOFT,
  );
  return [normed!, sum!];
}
