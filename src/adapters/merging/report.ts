// What a merge found out about a form: how far it drifts, how much faster it is, what it takes. Kept with the form, and shown.

import type { MergedForm } from '../../model/merged/merged-model.js';
import type { Drift } from './drift.js';

export interface Gain {
  /** Speed relative to the unmerged path: 1.2 is 20 % faster. By rows of a decoding step. */
  readonly decode: readonly { readonly rows: number; readonly ratio: number }[];
  /** Of a prompt's run. */
  readonly prefill: number;
}

export interface FormReport {
  readonly form: MergedForm;
  readonly drift: Drift;
  /** null where the drift is out of bounds, so that nobody measured. */
  readonly gain: Gain | null;
  readonly sizeBytes: number;
  readonly buildMs: number;
  readonly verdict: 'served' | 'drifts' | 'not faster';
}

/** Below this a step's gain is not told from noise. */
export const MIN_GAIN = 1.03;

export function isFaster({ decode }: Gain): boolean {
  return decode.every(({ ratio }) => ratio >= MIN_GAIN);
}
