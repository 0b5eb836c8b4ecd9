// Arrays to tensors. TensorFlow.js has one integer type, int32: u8 is widened, i64 saturates (an end of a slice may be 2^63 - 1).

import type { Tensor } from '@tensorflow/tfjs-core';
import { float16ToFloat32 } from '../../formats/float16.js';
import { assert } from '../../errors.js';
import type { EncodedInitializer, Initializer } from '../../graph/onnx.js';
import { product } from '../autodiff/shapes.js';
import type { InputData } from '../types.js';
import type { Tfjs } from './operation.js';

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;

/** `name` is for the message where the data does not fill the shape. */
export function toTensor(tf: Tfjs, name: string, data: InputData, shape: readonly number[]): Tensor {
  assert(data.length === product(shape), `${name}: ${data.length} values are not [${shape.join(', ')}]`);
  if (data instanceof Float32Array) return tf.tensor(data, [...shape], 'float32');
  const integers = data instanceof BigInt64Array ? Int32Array.from(data, saturated) : Int32Array.from(data);
  return tf.tensor(integers, [...shape], 'int32');
}

/** The values of a constant that lies inside the graph. */
export function constantData(initializer: Initializer | EncodedInitializer): InputData {
  assert(
    'data' in initializer && initializer.data instanceof Uint8Array,
    `constant ${initializer.name} must have its data inside the graph`,
  );
  const bytes = initializer.data.slice();
  switch (initializer.type) {
    case 'f32':
      return new Float32Array(bytes.buffer);
    case 'i64':
      return new BigInt64Array(bytes.buffer);
    case 'i32':
      return new Int32Array(bytes.buffer);
    case 'u8':
      return bytes;
    case 'f16':
      return float16ToFloat32(bytes);
  }
}

function saturated(value: bigint): number {
  return Math.min(INT32_MAX, Math.max(INT32_MIN, Number(value)));
}
