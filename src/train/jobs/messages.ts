// What the server and a worker process tell each other. Sent by structured clone, so maps and arrays arrive as they are.

import type { Outcome, TrainingEvent } from '../events.js';
import type { Control, RunRequest, Sample } from '../run-types.js';
import type { JobError } from './types.js';

export interface YieldSettings {
  /** Whether the run waits while the server is busy. */
  readonly isOn: boolean;
  /** Share of the time that it may compute even then, 0..1. */
  readonly minShare: number;
}

export type ToWorker =
  | { readonly type: 'run'; readonly request: RunRequest; readonly yielding: YieldSettings }
  /** Whether requests run or wait. */
  | { readonly type: 'load'; readonly isBusy: boolean }
  | { readonly type: 'control'; readonly control: Control }
  | { readonly type: 'sampled'; readonly step: number; readonly samples: readonly Sample[] }
  | { readonly type: 'sampling_failed'; readonly step: number; readonly message: string };

export type FromWorker =
  | { readonly type: 'heartbeat' }
  | { readonly type: 'event'; readonly event: TrainingEvent }
  | { readonly type: 'sample'; readonly step: number; readonly files: ReadonlyMap<string, Uint8Array> }
  | { readonly type: 'done'; readonly outcome: Outcome }
  | { readonly type: 'failed'; readonly error: JobError };
