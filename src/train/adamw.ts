// AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), with torch.optim.AdamW's arithmetic.
// Moments are f32, as the values are; what is between two roundings is f64.

import type { Parameter } from './types.js';

export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** Of each parameter, in the parameters' order. */
export interface AdamWState {
  readonly firstMoments: readonly Float32Array[];
  readonly secondMoments: readonly Float32Array[];
  /** Updates made so far: the t of the bias correction. */
  numUpdates: number;
}

export function initialAdamWState(parameters: readonly Parameter[]): AdamWState {
  const zeros = () => parameters.map(({ values }) => new Float32Array(values.length));
  return { firstMoments: zeros(), secondMoments: zeros(), numUpdates: 0 };
}

/**
 * One update of all parameters from their gradients, which it leaves as they are:
 *   p -= lr * decay * p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 */
export function updateAdamW(
  parameters: readonly Parameter[],
  state: AdamWState,
  options: AdamWOptions,
  learningRate: number,
): void {
  state.numUpdates += 1;
  for (const [index, parameter] of parameters.entries())
    updateParameter(
      parameter,
      state.firstMoments[index]!,
      state.secondMoments[index]!,
      options,
      learningRate * parameter.learningRateScale,
      state.numUpdates,
    );
}

function updateParameter(
  { values, gradient, decay }: Parameter,
  first: Float32Array,
  second: Float32Array,
  { betas: [beta1, beta2], epsilon, weightDecay }: AdamWOptions,
  learningRate: number,
  numUpdates: number,
): void {
  const keep = decay ? 1 - learningRate * weightDecay : 1;
  const stepSize = learningRate / (1 - beta1 ** numUpdates);
  const secondScale = Math.sqrt(1 - beta2 ** numUpdates);
  for (let i = 0; i < values.length; i++) {
    const g = gradient[i]!;
    const m = beta1 * first[i]! + (1 - beta1) * g;
    const v = beta2 * second[i]! + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    values[i] = values[i]! * keep - (stepSize * m) / (Math.sqrt(v) / secondScale + epsilon);
  }
}
