// One run in one worker process, from its start to its end: passes on what each side tells, lets go of a worker that fell silent or does
// not end, and says how it ended. Knows no queue; what a message means for the job is the caller's business.

import type { Outcome, TrainingEvent } from '../events.js';
import type { Control, RunRequest, Sample } from '../run-types.js';
import type { FromWorker, YieldSettings } from './messages.js';
import type { JobError } from './types.js';
import type { StartWorker, WorkerProcess } from './worker-process.js';

export type Sampler = (
  prompts: readonly string[],
  adapterFiles: ReadonlyMap<string, Uint8Array>,
  signal: AbortSignal,
) => Promise<readonly Sample[]>;

export interface AttendanceOptions {
  readonly startWorker: StartWorker;
  readonly yielding: YieldSettings;
  /** Whether requests run or wait now. */
  readonly isBusy: () => boolean;
  readonly sample: Sampler;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export type RunEnd =
  | { readonly kind: 'outcome'; readonly outcome: Outcome }
  | { readonly kind: 'failed'; readonly error: JobError }
  /** The worker ended without a word; `message` says how. */
  | { readonly kind: 'crashed'; readonly message: string }
  /** It was told to end and took too long, or abandon() was called. */
  | { readonly kind: 'abandoned' };

export interface Attendance {
  readonly pid: number | null;
  readonly ended: Promise<RunEnd>;
  control(control: Control): void;
  /** Whether the worker was ever told to end. */
  wasToldToEnd(): boolean;
  /** Ends the worker at once. */
  abandon(): void;
}

export interface RunListener {
  event(event: TrainingEvent): void;
  heartbeat(): void;
}

/** How often the server's load is looked at: less than a step of the engine. */
const LOAD_INTERVAL_MS = 10;
/** A server that was busy this short a time ago still is: the next request of a conversation is on its way. */
const IDLE_GRACE_MS = 200;
/** Heartbeats come every few seconds; a machine may be paused for minutes. */
const MAX_SILENCE_MS = 10 * 60_000;
/** A step may take many seconds, and then a checkpoint is written. */
const STOP_GRACE_MS = 60_000;
const EXIT_GRACE_MS = 10_000;

export function attend(request: RunRequest, options: AttendanceOptions, listener: RunListener): Attendance {
  let end: RunEnd | null = null;
  let heardMs = options.now();
  const timers: NodeJS.Timeout[] = [];
  let stopTimer: NodeJS.Timeout | undefined;
  let wasToldToEnd = false;
  let isOver = false;
  const sampling = new AbortController();

  const worker = options.startWorker((message) => {
    heardMs = options.now();
    take(message);
  });

  function take(message: FromWorker): void {
    switch (message.type) {
      case 'heartbeat':
        return listener.heartbeat();
      case 'event':
        return listener.event(message.event);
      case 'sample':
        return void answerSample(worker, request, message, options.sample, sampling.signal);
      case 'done':
        return finish({ kind: 'outcome', outcome: message.outcome });
      case 'failed':
        return finish({ kind: 'failed', error: message.error });
    }
  }

  function finish(how: RunEnd): void {
    end ??= how;
    timers.push(setTimeout(() => worker.kill(), EXIT_GRACE_MS));
  }

  function abandon(): void {
    end ??= { kind: 'abandoned' };
    worker.kill();
  }

  const watch = watchLoad(options, (isBusy) => worker.send({ type: 'load', isBusy }));
  timers.push(setInterval(watch, LOAD_INTERVAL_MS));
  timers.push(
    setInterval(() => {
      if (options.now() - heardMs <= MAX_SILENCE_MS) return;
      end ??= { kind: 'crashed', message: `The worker said nothing for ${MAX_SILENCE_MS / 60_000} minutes` };
      worker.kill();
    }, MAX_SILENCE_MS / 10),
  );
  watch();
  worker.send({ type: 'run', request, yielding: options.yielding });
  const ended = worker.ended.then((how): RunEnd => {
    isOver = true;
    for (const timer of [...timers, stopTimer]) clearTimeout(timer);
    sampling.abort();
    return end ?? { kind: 'crashed', message: `The worker ${how}` };
  });
  return {
    pid: worker.pid,
    ended,
    control(control) {
      worker.send({ type: 'control', control });
      clearTimeout(stopTimer);
      if (control === 'run') return;
      wasToldToEnd = true;
      if (isOver) return;
      stopTimer = setTimeout(abandon, STOP_GRACE_MS);
    },
    wasToldToEnd: () => wasToldToEnd,
    abandon,
  };
}

/** Looks at the load and tells where it has changed: busy at once, idle after the grace. */
function watchLoad({ isBusy, now }: AttendanceOptions, tell: (isBusy: boolean) => void): () => void {
  let isToldBusy = false;
  let busyMs = -Infinity;
  return () => {
    if (isBusy()) busyMs = now();
    const isNowBusy = now() - busyMs <= IDLE_GRACE_MS;
    if (isNowBusy === isToldBusy) return;
    isToldBusy = isNowBusy;
    tell(isNowBusy);
  };
}

async function answerSample(
  worker: WorkerProcess,
  request: RunRequest,
  { step, files }: Extract<FromWorker, { type: 'sample' }>,
  sample: Sampler,
  signal: AbortSignal,
): Promise<void> {
  try {
    const samples = await sample(request.options.samplePrompts, files, signal);
    worker.send({ type: 'sampled', step, samples });
  } catch (error) {
    // Samples are for people to look at: the run tells of it and goes on.
    const message = error instanceof Error ? error.message : String(error);
    worker.send({ type: 'sampling_failed', step, message });
  }
}
