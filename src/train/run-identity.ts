// What two processes must have in common to work on the same run: a hash of everything that decides its weights.

import { createHash } from 'node:crypto';
import type { TrainingOptions } from './options.js';
import type { Parameter } from './types.js';

/** sha256 (hex). Options that only watch the run, or decide what is kept of it, may change. */
export function runIdentity(
  options: TrainingOptions,
  dataFingerprints: readonly string[],
  parameters: readonly Parameter[],
): string {
  const { sampleSteps: _steps, samplePrompts: _prompts, keepCheckpoints: _keep, ...deciding } = options;
  const shapes = parameters.map(({ name, shape }) => [name, shape]);
  return createHash('sha256')
    .update(JSON.stringify(sorted({ deciding, dataFingerprints, shapes })))
    .digest('hex');
}

/** Keys in order, so that equal options have equal text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => sorted(item));
  if (typeof value !== 'object' || value === null) return value;
  const entries: [string, unknown][] = Object.entries(value);
  return Object.fromEntries(
    entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, sorted(item)]),
  );
}
