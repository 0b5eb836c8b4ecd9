// Rows held out for validation, and rows drawn from a larger dataset: seeded, in the order of the file.

import { GatewayError, assert } from '../errors.js';
import type { Dataset } from './dataset-reader.js';
import { seededRandom, shuffled } from './random.js';

const SPLIT_STREAM = 1;
const SAMPLE_STREAM = 2;

/**
 * `share` of the rows, in (0, 1), rounded, at least 1 on either side. What was dropped stays with the training part.
 * Throws GatewayError invalid_value where there is but one row.
 */
export function splitDataset(
  dataset: Dataset,
  share: number,
  seed: number,
): { readonly training: Dataset; readonly validation: Dataset } {
  assert(share > 0 && share < 1, `a validation share of ${share}`);
  const { rows } = dataset;
  if (rows.length < 2)
    throw new GatewayError(
      'invalid_value',
      `Expected at least 2 rows to hold some out for validation, got ${rows.length}; add rows, or set the validation share to 0`,
      { param: 'validation' },
    );
  const count = Math.min(rows.length - 1, Math.max(1, Math.round(rows.length * share)));
  const held = drawn(rows.length, count, seed, SPLIT_STREAM);
  return {
    training: { ...dataset, rows: rows.filter((_, index) => !held.has(index)) },
    validation: { ...dataset, rows: rows.filter((_, index) => held.has(index)), dropped: [] },
  };
}

/** At most `count` rows, drawn at random without repeats. */
export function sampleDataset(dataset: Dataset, count: number, seed: number): Dataset {
  const { rows } = dataset;
  if (rows.length <= count) return dataset;
  const kept = drawn(rows.length, count, seed, SAMPLE_STREAM);
  return { ...dataset, rows: rows.filter((_, index) => kept.has(index)) };
}

function drawn(numRows: number, count: number, seed: number, stream: number): ReadonlySet<number> {
  const indices = Array.from({ length: numRows }, (_, index) => index);
  return new Set(shuffled(indices, seededRandom(seed, stream)).slice(0, count));
}
