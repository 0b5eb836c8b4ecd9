// Where the trainer gets its micro-batches from. Data is another part's concern: here is only what the trainer relies on.

import type { TrainingBatch } from '../data/types.js';

/**
 * Micro-batches by number. A source is a pure function of (its data, its seed, epoch, index): that is why a place in the data is two
 * integers, and why a run that is resumed sees what the unbroken one would have seen.
 */
export interface BatchSource {
  /** Of an epoch; the same for every epoch, at least 1. */
  readonly numMicroBatches: number;
  /** Differs where any batch differs; a run is not resumed on other data than it began with. */
  readonly fingerprint: string;
  /** `epoch` from 0, `index` in [0, numMicroBatches). For DPO: segments by row, then number, are chosen, rejected, chosen, ... */
  microBatch(epoch: number, index: number): TrainingBatch;
}
