// Operators that reduce along axes, and the softmaxes, which normalize along one.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { axisOf, floatAttribute, intAttribute } from '../autodiff/shapes.js';
import { fromStart, type NodeCall, type Operation, type Tfjs } from './operation.js';

export const REDUCTIONS: Readonly<Record<string, Operation>> = {
  ReduceSum: reduction((tf, x, axes, keepDims) => tf.sum(x, axes, keepDims)),
  ReduceMean: reduction((tf, x, axes, keepDims) => tf.mean(x, axes, keepDims)),
  ReduceMax: reduction((tf, x, axes, keepDims) => tf.max(x, axes, keepDims)),
  Softmax: alongAxis((tf, x) => tf.softmax(x)),
  LogSoftmax: alongAxis((tf, x) => tf.logSoftmax(x)),
  SimplifiedLayerNormalization: rmsNorm,
};

/** Without axes all are reduced, or none where noop_with_empty_axes says so. */
function reduction(compute: (tf: Tfjs, x: Tensor, axes: number[], keepDims: boolean) => Tensor): Operation {
  return (call) => {
    const { tf, node, x } = call;
    const [input] = x;
    const { rank } = input!;
    const given = call.ints(1) ?? [];
    if (given.length === 0 && intAttribute(node, 'noop_with_empty_axes', 0) === 1) return tf.clone(input!);
    const axes =
      given.length === 0 ? input!.shape.map((_, axis) => axis) : given.map((axis) => fromStart(axis, rank));
    return compute(tf, input!, axes, intAttribute(node, 'keepdims', 1) === 1);
  };
}

/** Over the last axis; and 1 / RMS. */
function rmsNorm({ tf, node, x: [x, weight] }: NodeCall): readonly Tensor[] {
  const axis = axisOf(node, x!.rank, -1);
  assert(axis === x!.rank - 1, `${node.op} ${node.name} is over axis ${axis}, which is not the last`);
  const variance = tf.mean(tf.square(x!), -1, true);
  const inverse = tf.rsqrt(tf.add(variance, tf.scalar(floatAttribute(node, 'epsilon', 1e-5))));
  return [tf.mul(tf.mul(x!, inverse), weight!), inverse];
}

/** The library's softmaxes know the last axis only. */
function alongAxis(compute: (tf: Tfjs, x: Tensor) => Tensor): Operation {
  return ({ tf, node, x: [input] }: NodeCall) => {
    const { rank } = input!;
    const axis = axisOf(node, rank, -1);
    if (axis === rank - 1) return compute(tf, input!);
    const swapped = input!.shape.map((_, i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));
    return tf.transpose(compute(tf, tf.transpose(input!, swapped)), swapped);
  };
}
