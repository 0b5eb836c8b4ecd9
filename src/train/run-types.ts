// What a training run is given and what it reports to: the protocol between the worker process and the trainer. A run knows no job,
// no queue and no HTTP: its folder, its files and these hooks are all there is.

import type { EventSink, Outcome } from './events.js';
import type { TrainingOptions } from './options.js';
import type { YieldPoint } from './types.js';

/** A file with examples; `name` is what its sender called it: its ending tells the format, and messages name it. */
export interface DataFile {
  readonly path: string;
  readonly name: string;
}

export interface RunRequest {
  /** The converted base that is served. */
  readonly artifactFolder: string;
  /** Every choice made, the seed among them. */
  readonly options: TrainingOptions;
  readonly trainingFiles: readonly DataFile[];
  readonly validationFile: DataFile | null;
  /**
   * The run's own folder: checkpoints and logs. It exists. A run that finds a checkpoint there goes on from the newest one,
   * and so it ends at once where the last step was reached before. In it TRAINER_LOG, one JSON object a line, and in the end what can be
   * served: the files of the best checkpoint's adapter (of a full fine-tuning: a base) in ADAPTER_FOLDER of checkpoint.ts.
   */
  readonly folder: string;
  /** Threads that may compute. */
  readonly threads: number;
}

export const TRAINER_LOG = 'trainer_log.jsonl';

/**
 * What is wanted of the run. `pause` and `stop`: write a checkpoint at the next step's end and return `stopped`; `cancel`: return
 * `stopped` without one.
 */
export type Control = 'run' | 'pause' | 'stop' | 'cancel';

export interface Sample {
  readonly prompt: string;
  readonly text: string;
}

export interface RunHooks {
  /**
   * A checkpoint's event comes after its folder is durable: in its ADAPTER_FOLDER the files of TrainingMethod.files(), beside whatever
   * resuming needs.
   */
  readonly emit: EventSink;
  /** To be asked at the end of each step, at least. */
  control(): Control;
  /** To be awaited between any two pieces of heavy work; also where control() changes. */
  readonly yieldPoint: YieldPoint;
  /**
   * Answers to the options' samplePrompts, greedily, by the base with these files of an adapter. Empty where the server could not:
   * a warning says why, and the run goes on.
   */
  sample(step: number, adapterFiles: ReadonlyMap<string, Uint8Array>): Promise<readonly Sample[]>;
}

/**
 * Runs to the end, or to where control() ends it. Data or options that do not fit are `failed` with a code, or a GatewayError thrown; both
 * become the job's error. Anything else thrown is our fault.
 */
export type Run = (request: RunRequest, hooks: RunHooks) => Promise<Outcome>;
