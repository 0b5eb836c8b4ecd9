// Operators that read and write elements at positions that other tensors give.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { axisOf } from '../autodiff/shapes.js';
import type { NodeCall, Operation } from './operation.js';

export const INDEXING: Readonly<Record<string, Operation>> = {
  Gather: gather,
  ScatterND: scatterAdd,
};

/** Indices may count from the end. */
function gather({ tf, node, x: [table, indices] }: NodeCall): Tensor {
  const axis = axisOf(node, table!.rank, 0);
  const fromEnd = tf.add(indices!, tf.scalar(table!.shape[axis]!, 'int32'));
  const positions = tf.where(tf.less(indices!, tf.scalar(0, 'int32')), fromEnd, indices!);
  return tf.gather(table!, tf.cast(positions, 'int32'), axis);
}

/** Values for the same position add up. */
function scatterAdd({ tf, node, x: [data, indices, updates] }: NodeCall): Tensor {
  const { reduction } = node.attributes;
  assert(
    reduction !== undefined && 'string' in reduction && reduction.string === 'add',
    `ScatterND ${node.name} must have the reduction add`,
  );
  return tf.add(data!, tf.scatterND(indices!, updates!, data!.shape));
}
