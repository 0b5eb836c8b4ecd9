// A frozen matrix as a graph's inputs, the nodes that make f32 [out, in] of codes, and the product with it. Nothing of it is kept between
// runs.

import { int } from '../../graph/builder.js';
import type { Expressions } from '../autodiff/expressions.js';
import type { MatrixForm } from '../frozen-weights.js';
import { dequantizeNf4Node } from '../nf4-node.js';
import { NF4_BLOCK_SIZE } from '../nf4.js';
import type { Precision } from '../options.js';

const FLOAT = 1;

/** x · Wᵀ of a matrix that has no gradient: f32, or what frozenMatrix() gives. */
export function frozenProduct(e: Expressions, x: string, matrix: string, precision: Precision): string {
  return precision === 'bf16' ? e.bfloat16Product(x, matrix) : e.matmul(x, matrix, { transB: true });
}

/** Declares inputs `name`, `${name}.scales` ... (as FrozenMatrix.parts) and returns the value [out, in]; bytes [out, in, 2] of bfloat16. */
export function frozenMatrix(
  e: Expressions,
  name: string,
  form: MatrixForm,
  [rows, cols]: readonly [number, number],
): string {
  const { graph } = e;
  switch (form.kind) {
    case 'f32':
      return graph.input(name, 'f32', [rows, cols]);
    case 'bf16':
      return graph.input(name, 'u8', [rows, cols, 2]);
    case 'nf4': {
      const codes = graph.input(name, 'u8', [Math.ceil((rows * cols) / 2)]);
      const absmax = graph.input(`${name}.absmax`, 'f32', [Math.ceil((rows * cols) / NF4_BLOCK_SIZE)]);
      return dequantizeNf4Node(graph, `${name}.f32`, codes, absmax, [rows, cols]);
    }
    case 'codes':
      return dequantizeCodes(e, name, form, [rows, cols]);
  }
}

/**
 * Rounds the product and the sum, StoredMatrix only the sum: the same values wherever scales have at most 20 bits, as those of GGUF
 * files do, and else within half a unit of the product's last place.
 */
function dequantizeCodes(
  e: Expressions,
  name: string,
  { zero, blockSize, minimaBlockSize }: MatrixForm & { readonly kind: 'codes' },
  [rows, cols]: readonly [number, number],
): string {
  const { graph } = e;
  const blocks = Math.ceil(cols / blockSize);
  const codes = graph.input(name, 'u8', [rows, blocks, blockSize]);
  const scales = graph.input(`${name}.scales`, 'f32', [rows, blocks, 1]);
  const centred = e.sub(e.op('Cast', [codes], { to: int(FLOAT) }), e.scalar(zero));
  const padded = e.reshape(e.mul(centred, scales), [rows, blocks * blockSize]);
  if (minimaBlockSize === null) return cut(e, padded, cols);
  const minimaBlocks = Math.ceil(cols / minimaBlockSize);
  const minima = graph.input(`${name}.minima`, 'f32', [rows, minimaBlocks, 1]);
  const width = minimaBlocks * minimaBlockSize;
  const products = width <= blocks * blockSize ? cut(e, padded, width) : pad(e, padded, width);
  const sums = e.add(e.reshape(products, [rows, minimaBlocks, minimaBlockSize]), minima);
  return cut(e, e.reshape(sums, [rows, width]), cols);
}

function cut(e: Expressions, value: string, cols: number): string {
  return e.shape(value)[1] === cols ? value : e.slice(value, 0, cols, 1);
}

function pad(e: Expressions, value: string, cols: number): string {
  const [rows, width] = e.shape(value);
  return e.concat([value, e.zeros([rows!, cols - width!])], 1);
}
