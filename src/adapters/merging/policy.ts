// When to merge, and what: pure decisions over counts and times.

import type { MergedForm } from '../../model/merged/merged-model.js';
import type { FormReport } from './report.js';
import type { Hotness } from './hotness.js';

/** Requests within the last minutes that make an adapter worth a merge. */
export const MIN_SCORE = 4;
/** How much hotter than the merged adapter another must be to take its place. */
const TAKEOVER = 2;

export interface MergeSituation {
  readonly idleMs: number;
  readonly requiredIdleMs: number;
  readonly hotness: Hotness;
  readonly nowMs: number;
  readonly mergedHash: string | null;
  /** Forms of it that were not tried yet; none for what cannot be merged. */
  formsLeft(hash: string): readonly MergedForm[];
}

/** The adapter to merge now, or null. */
export function nextToMerge(situation: MergeSituation): string | null {
  const { idleMs, requiredIdleMs, hotness, nowMs, mergedHash } = situation;
  if (idleMs < requiredIdleMs) return null;
  const least =
    mergedHash === null ? MIN_SCORE : Math.max(MIN_SCORE, TAKEOVER * hotness.score(mergedHash, nowMs));
  const [hottest] = hotness
    .ranking(nowMs)
    .filter(({ hash }) => hash !== mergedHash && situation.formsLeft(hash).length > 0);
  return hottest !== undefined && hottest.score >= least ? hottest.hash : null;
}

/** A form that was found wanting is not made again; one that was served and dropped is. */
export function formsLeft(
  forms: readonly MergedForm[],
  reports: readonly FormReport[],
): readonly MergedForm[] {
  const refused = new Set(reports.filter(({ verdict }) => verdict !== 'served').map(({ form }) => form));
  return forms.filter((form) => !refused.has(form));
}
