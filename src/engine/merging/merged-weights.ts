// One adapter's merged weights as the engine runs them, and which runs may use them.

import type { ServingAdapter } from '../../adapters/types.js';
import type { MergedForm } from '../../model/merged/merged-model.js';
import type { Session } from '../../runtime/session.js';

export interface MergedWeights {
  /** The adapter's content hash. */
  readonly hash: string;
  readonly form: MergedForm;
  /** Takes the inputs of the graph without adapters. */
  readonly session: Session;
  /** Whether runs of several tokens a row are faster with it, too. */
  readonly servesPrefill: boolean;
}

/**
 * Every row has the adapter: a run with others goes on unmerged as a whole. Two runs of the graph would read the weights twice.
 */
export function runsMerged(
  merged: MergedWeights | null,
  rows: readonly (ServingAdapter | null)[],
  numTokens: number,
): boolean {
  if (merged === null || rows.length === 0 || (numTokens > 1 && !merged.servesPrefill)) return false;
  return rows.every((adapter) => adapter?.hash === merged.hash);
}

/** What sets keys and values of rounded weights apart from exact ones in the prompt-prefix cache; '' for those that are exact. */
export function roundingOf(merged: MergedWeights | null): string {
  return merged === null || merged.form === 'folded' ? '' : merged.form;
}
