// Whole training runs of the small models, in temporary folders, with their events.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Outcome, TrainingEvent } from '../../src/train/events.js';
import { DEFAULT_OPTIONS, type TrainingOptions } from '../../src/train/options.js';
import { train } from '../../src/train/trainer.js';
import type { TrainingRun } from '../../src/train/training-run.js';
import { END } from './token-data.js';
import type { TokenModel } from './token-models.js';

export interface RunParts extends Pick<TrainingRun, 'batches'> {
  readonly tokenModel: TokenModel;
  readonly options?: Partial<TrainingOptions>;
  readonly evalBatches?: TrainingRun['evalBatches'];
  readonly control?: TrainingRun['control'];
  readonly sample?: TrainingRun['sample'];
  readonly onEvent?: (event: TrainingEvent) => void;
}

export interface FinishedRun {
  readonly outcome: Outcome;
  readonly events: readonly TrainingEvent[];
  readonly folder: string;
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'train-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Options for small models: no warm-up, no early stopping, unless said. */
export function smallOptions(options: Partial<TrainingOptions> = {}): TrainingOptions {
  return {
    ...DEFAULT_OPTIONS,
    learningRate: 0.1,
    warmupRatio: 0,
    epochs: 2,
    earlyStoppingPatience: null,
    ...options,
  };
}

/** A clock that moves on by a second with each look at it. */
export function tickingClock(): () => number {
  let now = 1_700_000_000_000;
  return () => (now += 1000);
}

export async function runSmall(folder: string, parts: RunParts): Promise<FinishedRun> {
  const events: TrainingEvent[] = [];
  const outcome = await train({
    ...parts.tokenModel,
    batches: parts.batches,
    evalBatches: parts.evalBatches ?? null,
    options: smallOptions(parts.options),
    folder,
    emit(event) {
      events.push(event);
      parts.onEvent?.(event);
    },
    control: parts.control ?? (() => 'run'),
    clock: tickingClock(),
    sample: parts.sample ?? null,
    endTokens: new Set([END]),
  });
  return { outcome, events, folder };
}

export function eventsOf<T extends TrainingEvent['type']>(
  { events }: Pick<FinishedRun, 'events'>,
  type: T,
): Extract<TrainingEvent, { type: T }>[] {
  return events.filter((event): event is Extract<TrainingEvent, { type: T }> => event.type === type);
}

/** The adapter that a run left. */
export function adapterBytes(folder: string): Buffer {
  return readFileSync(join(folder, 'adapter', 'adapter_model.safetensors'));
}
