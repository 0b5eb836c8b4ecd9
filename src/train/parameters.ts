// Trained tensors: how one is made, and how gradients are added to them.

import { assert } from '../errors.js';
import type { Parameter } from './types.js';

/** `values` becomes the parameter's own. */
export function createParameter(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  { decay = true, learningRateScale = 1 }: { decay?: boolean; learningRateScale?: number } = {},
): Parameter {
  const size = shape.reduce((product, dim) => product * dim, 1);
  assert(size === values.length, `${name} of shape [${shape.join(', ')}] over ${values.length} values`);
  return { name, shape, values, gradient: new Float32Array(size), decay, learningRateScale };
}

/** target += source. */
export function addInto(target: Float32Array, source: Float32Array): void {
  assert(target.length === source.length, `${source.length} values added to ${target.length}`);
  for (let i = 0; i < target.length; i++) target[i]! += source[i]!;
}
