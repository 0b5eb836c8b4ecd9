// Matrix products over the last two dimensions, with ONNX's broadcasting of the others.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { floatAttribute, intAttribute } from '../autodiff/shapes.js';
import type { Operation, Tfjs } from './operation.js';

export const PRODUCTS: Readonly<Record<string, Operation>> = {
  MatMul: ({ tf, x: [a, b] }) => matrixProduct(tf, a!, b!, false, false),
  FusedMatMul: (call) => {
    const { tf, node, x } = call;
    const unsupported = ['transBatchA', 'transBatchB'].filter((name) => intAttribute(node, name, 0) !== 0);
    assert(unsupported.length === 0, `FusedMatMul ${node.name} has ${unsupported.join(' and ')}`);
    const flag = (name: string): boolean => intAttribute(node, name, 0) === 1;
    const y = matrixProduct(tf, x[0]!, x[1]!, flag('transA'), flag('transB'));
    const alpha = floatAttribute(node, 'alpha', 1);
    return alpha === 1 ? y : tf.mul(y, tf.scalar(alpha));
  },
};

/** op(a) · op(b); one matrix b for many a is one product. */
export function matrixProduct(tf: Tfjs, a: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor {
  if (b.rank === 2 && a.rank > 2 && !transA) {
    const rows = tf.reshape(a, [-1, a.shape.at(-1)!]);
    const y = matrixProduct(tf, rows, b, false, transB);
    return tf.reshape(y, [...a.shape.slice(0, -1), y.shape[1]!]);
  }
  if (tf.getBackend() === 'wasm') return oneByOne(tf, a, b, transA, transB);
  const [left, right] = sameBatches(tf, a, b);
  return tf.matMul(left, right, transA, transB);
}

/** The WebAssembly kernel is several times faster for one pair of matrices, neither of them transposed. */
function oneByOne(tf: Tfjs, a: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor {
  const first = transA ? swapLast(tf, a) : a;
  const second = transB ? swapLast(tf, b) : b;
  if (first.rank === 2 && second.rank === 2) return tf.matMul(first, second);
  const [left, right] = sameBatches(tf, first, second);
  const matrices = (x: Tensor): Tensor[] => tf.unstack(tf.reshape(x, [-1, ...x.shape.slice(-2)]));
  const rights = matrices(right);
  const products = matrices(left).map((matrix, i) => tf.matMul(matrix, rights[i]!));
  return tf.reshape(tf.stack(products), [...left.shape.slice(0, -1), right.shape.at(-1)!]);
}

function swapLast(tf: Tfjs, x: Tensor): Tensor {
  const axes = x.shape.map((_, axis) => axis);
  return tf.transpose(x, [...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!]);
}

/** Both with the batch dimensions that they broadcast to: the library's product has no derivative that sums broadcast ones. */
function sameBatches(tf: Tfjs, a: Tensor, b: Tensor): [Tensor, Tensor] {
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const stretched = (x: Tensor): Tensor => {
    const shape = [...batch, ...x.shape.slice(-2)];
    return tf.util.arraysEqual(x.shape, shape) ? x : tf.add(x, tf.zeros(shape));
  };
  return [stretched(a), stretched(b)];
}
