// Operators that act on each element, with ONNX's broadcasting, which is TensorFlow.js's too.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { intAttribute } from '../autodiff/shapes.js';
import type { NodeCall, Operation, Tfjs } from './operation.js';

/** ONNX's TensorProto data types that a Cast may ask for, as TensorFlow.js has them. */
const CAST_TARGETS: Readonly<Record<number, 'float32' | 'int32' | 'bool'>> = {
  1: 'float32',
  6: 'int32',
  7: 'int32',
  9: 'bool',
};

export const ELEMENTWISE: Readonly<Record<string, Operation>> = {
  Add: binary((tf, a, b) => tf.add(a, b)),
  Sub: binary((tf, a, b) => tf.sub(a, b)),
  Mul: binary((tf, a, b) => tf.mul(a, b)),
  Div: binary((tf, a, b) => tf.div(a, b)),
  Pow: binary((tf, a, b) => tf.pow(a, b)),
  Neg: unary((tf, a) => tf.neg(a)),
  Exp: unary((tf, a) => tf.exp(a)),
  Log: unary((tf, a) => tf.log(a)),
  Sqrt: unary((tf, a) => tf.sqrt(a)),
  Reciprocal: unary((tf, a) => tf.reciprocal(a)),
  Sigmoid: unary((tf, a) => tf.sigmoid(a)),
  Tanh: unary((tf, a) => tf.tanh(a)),
  Relu: unary((tf, a) => tf.relu(a)),
  Sign: unary((tf, a) => tf.sign(a)),
  Identity: unary((tf, a) => tf.clone(a)),
  Where: ({ tf, x: [condition, a, b] }) => tf.where(condition!, a!, b!),
  Cast: ({ tf, node, x: [a] }) => {
    const to = intAttribute(node, 'to', 0);
    const target = CAST_TARGETS[to];
    assert(target !== undefined, `Cast ${node.name} is to data type ${to}, which TensorFlow.js has not`);
    return tf.cast(a!, target);
  },
};

function unary(compute: (tf: Tfjs, a: Tensor) => Tensor): Operation {
  return ({ tf, x: [a] }) => compute(tf, a!);
}

function binary(compute: (tf: Tfjs, a: Tensor, b: Tensor) => Tensor): Operation {
  return ({ tf, x: [a, b] }: NodeCall) => compute(tf, a!, b!);
}
