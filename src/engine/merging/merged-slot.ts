// The one merged copy that an engine holds: opened while requests go on, swapped in between two runs, freed when none can use it.

import { openMerged, type MergedForm, type MergedModel } from '../../model/merged/merged-model.js';
import type { Runtime } from '../../runtime/runtime.js';
import type { MergedWeights } from './merged-weights.js';

export interface MergedFolder {
  readonly hash: string;
  readonly form: MergedForm;
  readonly folder: string;
  readonly servesPrefill: boolean;
}

export interface MergedSlot {
  /** Resolves when runs use the copy; what was held before is freed. null goes back to unmerged runs. One call at a time. */
  swap(next: MergedFolder | null): Promise<void>;
}

/** `use` swaps between two runs; after it, no run uses what came before. */
export function createMergedSlot(
  runtime: Runtime,
  threads: number,
  use: (merged: MergedWeights | null) => Promise<void>,
): MergedSlot {
  let held: MergedModel | null = null;
  return {
    async swap(next) {
      const opened = next === null ? null : await openMerged(runtime, next.form, next.folder, threads);
      try {
        await use(next === null || opened === null ? null : { ...next, session: opened.session });
      } catch (error) {
        await opened?.dispose();
        throw error;
      }
      const before = held;
      held = opened;
      await before?.dispose();
    },
  };
}
