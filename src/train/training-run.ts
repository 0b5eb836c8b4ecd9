// Everything that the trainer needs for one run, as values and functions: it opens no data, no model and no clock of its own.

import type { BatchSource } from './batch-source.js';
import type { EventSink } from './events.js';
import type { TrainingOptions } from './options.js';
import type { Control, Sample } from './run-types.js';
import type { TrainingMethod, TrainingModel } from './types.js';

export interface TrainingRun {
  readonly model: TrainingModel;
  readonly method: TrainingMethod;
  readonly batches: BatchSource;
  /** Held-out rows: its first epoch is what evaluations are over. null is no evaluation, and no early stopping. */
  readonly evalBatches: BatchSource | null;
  readonly options: TrainingOptions;
  /** The run's own; it exists. A checkpoint in it is gone on from. */
  readonly folder: string;
  readonly emit: EventSink;
  /** Asked before every micro-batch. */
  readonly control: () => Control;
  /** Unix milliseconds. */
  readonly clock: () => number;
  /** Answers of the adapter as it is; null is none. What it throws becomes a warning. */
  readonly sample:
    ((step: number, adapterFiles: ReadonlyMap<string, Uint8Array>) => Promise<readonly Sample[]>) | null;
  /** Tokens that end an answer, for the diagnosis; empty where there are none. */
  readonly endTokens: ReadonlySet<number>;
}
