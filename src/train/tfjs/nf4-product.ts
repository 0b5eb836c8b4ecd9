// com.microsoft.MatMulBnb4: x · Wᵀ, W [N, K] being NF4 codes with expanded magnitudes. The values of W are those of dequantizeNf4.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { intAttribute } from '../autodiff/shapes.js';
import { NF4_LEVELS } from '../nf4.js';
import type { NodeCall, Tfjs } from './operation.js';
import { matrixProduct } from './products.js';

const NF4 = 1;

export function nf4Product({ tf, node, x: [a, codes, absmax] }: NodeCall): Tensor {
  const attribute = (name: string): number => intAttribute(node, name, -1);
  assert(
    attribute('quant_type') === NF4 && intAttribute(node, 'transB', 1) === 1,
    `MatMulBnb4 ${node.name} must have quant_type 1 and transB 1`,
  );
  const [rows, cols, blockSize] = [attribute('N'), attribute('K'), attribute('block_size')];
  const levels = tf.reshape(tf.gather(levelPairs(tf), codes!), [-1]);
  const padded = tf.pad(levels, [[0, absmax!.size * blockSize - levels.size]]);
  const blocks = tf.mul(tf.reshape(padded, [-1, blockSize]), tf.reshape(absmax!, [-1, 1]));
  const weight = tf.reshape(tf.slice(tf.reshape(blocks, [-1]), [0], [rows * cols]), [rows, cols]);
  return matrixProduct(tf, a!, weight, false, true);
}

/** [256, 2]: the levels of each byte's two codes, that of the high nibble first. */
function levelPairs(tf: Tfjs): Tensor {
  const pairs = NF4_LEVELS.flatMap((high) => NF4_LEVELS.map((low) => [high, low]));
  return tf.tensor2d(pairs);
}
