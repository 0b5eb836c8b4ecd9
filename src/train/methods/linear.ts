// PyTorch's Linear layer inside encoders: parameters as it names and initializes them, and its nodes.

import type { Expressions } from '../autodiff/expressions.js';
import { createParameter } from '../parameters.js';
import { uniform } from '../random-numbers.js';
import type { Parameter } from '../types.js';

/** `${name}.weight` [out, in] and `${name}.bias` [out], from [-1/sqrt(in), 1/sqrt(in)). The key decides the numbers. */
export function linearParameters(
  name: string,
  [out, input]: readonly [number, number],
  ...key: readonly number[]
): readonly Parameter[] {
  const bound = 1 / Math.sqrt(input);
  return [
    createParameter(`${name}.weight`, [out, input], uniform(out * input, bound, ...key, 0)),
    createParameter(`${name}.bias`, [out], uniform(out, bound, ...key, 1), { decay: false }),
  ];
}

/** [rows, in] -> [rows, out]. */
export function linear(e: Expressions, x: string, name: string): string {
  return e.add(e.matmul(x, `${name}.weight`, { transB: true }), `${name}.bias`);
}

export function relu(e: Expressions, x: string): string {
  return e.op('Relu', [x]);
}
