// Clipping by the global norm, as torch.nn.utils.clip_grad_norm_ does it.

import type { Parameter } from './types.js';

/** What torch adds to the norm so as not to divide by zero. */
const EPSILON = 1e-6;

/** L2 norm over all gradients together; NaN or infinite where one of them is. Sums in f64, always in the same order. */
export function gradientNorm(parameters: readonly Parameter[]): number {
  let sum = 0;
  for (const { gradient } of parameters) for (const value of gradient) sum += value * value;
  return Math.sqrt(sum);
}

/** Scales all gradients by maxNorm / (norm + 1e-6) where that is below 1. `norm` is gradientNorm's; a `maxNorm` of 0 is no clipping. */
export function clipGradients(parameters: readonly Parameter[], norm: number, maxNorm: number): void {
  const scale = maxNorm / (norm + EPSILON);
  if (maxNorm === 0 || scale >= 1) return;
  for (const { gradient } of parameters)
    for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i]! * scale;
}
