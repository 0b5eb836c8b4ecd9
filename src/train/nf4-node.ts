// NF4 weights inside a graph: the nodes that make f32 of them, and a check that a backend's kernel does it right.

import { assert, GatewayError } from '../errors.js';
import { GraphBuilder, int, MICROSOFT } from '../graph/builder.js';
import { dequantizeNf4, expandAbsmax, NF4_BLOCK_SIZE, quantizeNf4 } from './nf4.js';
import type { Backend } from './types.js';

const INT32_MAX = 2 ** 31 - 1;
const NF4 = 1;

/**
 * f32 [shape] of the values named `codes` (u8 [ceil(n / 2)]) and `absmax` (f32 [ceil(n / 64)], expanded), n being the shape's product.
 * MatMulBnb4 is the only operator that reads this layout: 1 times the matrix taken as one column [n, 1] is the matrix itself, to
 * the bit. (Its transB=0 would serve a backward pass directly, but is computed as transB=1, in a wrong order.)
 */
export function dequantizeNf4Node(
  graph: GraphBuilder,
  name: string,
  codes: string,
  absmax: string,
  shape: readonly number[],
): string {
  const size = shape.reduce((product, dim) => product * dim, 1);
  assert(size <= INT32_MAX, `${name} has ${size} values; the kernel counts with 32 bits`);
  const one = graph.constant(`${name}.one`, Float32Array.of(1), [1, 1]);
  const attributes = {
    K: int(1),
    N: int(size),
    block_size: int(NF4_BLOCK_SIZE),
    quant_type: int(NF4),
    transB: int(1),
  };
  const row = graph.node('MatMulBnb4', `${name}.row`, [one, codes, absmax], attributes, MICROSOFT);
  const dims = BigInt64Array.from(shape, BigInt);
  return graph.node('Reshape', name, [row, graph.constant(`${name}.shape`, dims, [dims.length])]);
}

/** Throws GatewayError unavailable where the backend's values are not exactly those of dequantizeNf4. Milliseconds. */
export async function checkNf4Kernel(backend: Backend): Promise<void> {
  // Rows end inside blocks and the last block is short; every code occurs.
  const shape = [3, 70];
  const matrix = quantizeNf4(
    Float32Array.from({ length: 210 }, (_, i) => Math.sin(i * i) * (1 + (i >> 6))),
    shape,
  );
  const absmax = expandAbsmax(matrix);
  const graph = new GraphBuilder();
  graph.input('codes', 'u8', [matrix.codes.length]);
  graph.input('absmax', 'f32', [absmax.length]);
  graph.output(dequantizeNf4Node(graph, 'weight', 'codes', 'absmax', shape), 'f32', shape);
  const executor = await backend.compile(graph);
  try {
    const inputs = new Map([
      ['codes', { data: matrix.codes, shape: [matrix.codes.length] }],
      ['absmax', { data: absmax, shape: [absmax.length] }],
    ]);
    const found = (await executor.run(inputs, new Map([['weight', shape]]))).get('weight')!;
    const wrong = dequantizeNf4(matrix).findIndex((value, i) => value !== found[i]);
    if (wrong >= 0)
      throw new GatewayError(
        'unavailable',
        `Expected the ${backend.name} backend to dequantize NF4 exactly, value ${wrong} of the self-test is wrong on this machine; ` +
          'train with frozen weights in f32 or int4 instead.',
      );
  } finally {
    executor.dispose();
  }
}
