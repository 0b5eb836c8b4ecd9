// Examples to rows: best-fit decreasing, each example into the fullest row that still has room for it
// (as in Ding et al. 2024, "Fewer Truncations Improve Language Modeling").

import { assert } from '../errors.js';

/**
 * Indices of `lengths` by row, no row over `capacity`. Examples of one length are placed in the order given, so the number of rows
 * depends on the lengths alone. An example longer than a row has one to itself.
 */
export function packBestFit(lengths: readonly number[], capacity: number): number[][] {
  const order = lengths.map((_, index) => index).toSorted((a, b) => lengths[b]! - lengths[a]!);
  const rows: number[][] = [];
  /** rowsWithRoom[n]: rows that have room for n more tokens. */
  const rowsWithRoom: number[][] = Array.from({ length: capacity + 1 }, () => []);
  for (const index of order) {
    const length = lengths[index]!;
    assert(length > 0, 'an example without tokens');
    let room = length;
    while (room <= capacity && rowsWithRoom[room]!.length === 0) room++;
    const row = room <= capacity ? rowsWithRoom[room]!.pop()! : rows.push([]) - 1;
    rows[row]!.push(index);
    const left = (room <= capacity ? room : capacity) - length;
    if (left > 0) rowsWithRoom[left]!.push(row);
  }
  return rows;
}
