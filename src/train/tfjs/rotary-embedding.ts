// Rotary position embedding (Su et al., arXiv 2104.09864), in halves: pairs (i, i + D/2) of every head.

import type { Tensor } from '@tensorflow/tfjs-core';
import type { NodeCall } from './operation.js';

/** x [B, S, heads * D]; positions [B, S] are rows of cos and sin [-, D/2]. */
export function rotaryEmbedding({ tf, x: [x, positions, cos, sin] }: NodeCall): Tensor {
  const [rows, tokens, width] = x!.shape as [number, number, number];
  const half = cos!.shape[1]!;
  const angles = (table: Tensor): Tensor =>
    tf.reshape(tf.gather(table, tf.cast(positions!, 'int32')), [rows, tokens, 1, half]);
  const [c, s] = [angles(cos!), angles(sin!)];
  const [a, b] = tf.split(tf.reshape(x!, [rows, tokens, width / (2 * half), 2 * half]), 2, 3) as [
    Tensor,
    Tensor,
  ];
  const turned = [tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))];
  return tf.reshape(tf.concat(turned, 3), x!.shape);
}
