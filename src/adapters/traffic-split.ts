// Which of several targets a request goes to: each has its share of the line from 0 to 1, and a request a point on it. Pure.

import { createHash } from 'node:crypto';

export interface WeightedTarget {
  /** Percent; all of an alias make 100. */
  readonly weight: number;
}

/** @param point at least 0, below 1 */
export function targetAt<T extends WeightedTarget>(targets: readonly T[], point: number): T {
  const total = targets.reduce((sum, { weight }) => sum + weight, 0);
  let end = 0;
  for (const target of targets) {
    end += target.weight;
    if (point * total < end) return target;
  }
  return targets.at(-1)!;
}

const POINT_BYTES = 6;

/** The same point for the same texts, spread evenly over all texts. Where shares change a little, most texts keep their target. */
export function stickyPoint(texts: readonly string[]): number {
  const digest = createHash('sha256').update(JSON.stringify(texts)).digest();
  return digest.readUIntBE(0, POINT_BYTES) / 2 ** (8 * POINT_BYTES);
}
