// What a server tells about merging: the forms that were tried for an adapter, and the one that serves it.

import type { MergedForm } from '../../model/merged/merged-model.js';
import type { FormReport } from './report.js';

export interface MergeStatus {
  /** Of the version with this content hash, in the order in which they were tried; empty where none was. */
  reports(hash: string): readonly FormReport[];
  /** The form in which it is served now, or null. */
  servedForm(hash: string): MergedForm | null;
  /** All that is known, for metrics. */
  all(): readonly { readonly hash: string; readonly reports: readonly FormReport[] }[];
  /** Merges that began, ended with a form, ended without one, or were broken off. */
  readonly counts: Readonly<Record<'started' | 'served' | 'refused' | 'stopped' | 'failed', number>>;
}
