// Where products with frozen matrices can be computed in bfloat16: a question to the machine, not to the options alone.

import { bfloat16Kernels } from '../runtime/native-kernels.js';
import type { Precision, TrainingOptions } from './options.js';

export type PrecisionChoice = Pick<TrainingOptions, 'precision' | 'backend'>;

/** The library with the products that were asked for, or null where they are not or there is none. */
export function precisionKernels({ precision, backend }: PrecisionChoice): string | null {
  return precision === 'bf16' && backend === 'onnx' ? bfloat16Kernels() : null;
}

/** What a run of these options computes in on this machine. */
export function precisionHere(options: PrecisionChoice): Precision {
  return precisionKernels(options) === null ? 'f32' : 'bf16';
}
