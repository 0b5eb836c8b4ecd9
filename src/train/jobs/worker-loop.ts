// The worker's side: takes one run from its server, does it, and tells how it went. The channel and the run are given, so that it works in
// any process, or in a test's.

import { setTimeout as delay } from 'node:timers/promises';
import { GatewayError } from '../../errors.js';
import type { Control, Run, RunRequest, Sample } from '../run-types.js';
import type { FromWorker, ToWorker, YieldSettings } from './messages.js';
import type { JobError } from './types.js';
import { createYielding, type YieldClock, type Yielding } from './yielding.js';

export interface Channel {
  /** Resolves when the message is on its way. */
  send(message: FromWorker): Promise<void>;
  onMessage(listener: (message: ToWorker) => void): void;
}

const HEARTBEAT_MS = 5_000;

/** Resolves when the one run that is asked for has ended and its end has been told. */
export function serveRun(run: Run, channel: Channel): Promise<void> {
  return new Promise((resolve, reject) => {
    const session = new Session(channel);
    channel.onMessage((message) => {
      if (message.type === 'run') session.run(run, message.request, message.yielding).then(resolve, reject);
      else session.take(message);
    });
  });
}

class Session {
  readonly #channel: Channel;
  #control: Control = 'run';
  #isBusy = false;
  #yielding: Yielding | null = null;
  #sampling: { resolve(samples: readonly Sample[]): void } | null = null;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  async run(run: Run, request: RunRequest, settings: YieldSettings): Promise<void> {
    const yielding = createYielding(settings, CLOCK);
    this.#yielding = yielding;
    yielding.setBusy(this.#isBusy);
    yielding.setEnding(this.#control !== 'run');
    const heartbeat = setInterval(() => void this.#channel.send({ type: 'heartbeat' }), HEARTBEAT_MS).unref();
    try {
      await this.#channel.send(await this.#outcome(run, request, yielding));
    } finally {
      clearInterval(heartbeat);
    }
  }

  take(message: Exclude<ToWorker, { type: 'run' }>): void {
    switch (message.type) {
      case 'load':
        this.#isBusy = message.isBusy;
        this.#yielding?.setBusy(message.isBusy);
        return;
      case 'control':
        this.#control = message.control;
        this.#yielding?.setEnding(message.control !== 'run');
        return;
      case 'sampled':
        this.#sampled(message.samples);
        return;
      case 'sampling_failed':
        this.#warn(`No samples at step ${message.step}: ${message.message}`);
        this.#sampled([]);
    }
  }

  async #outcome(run: Run, request: RunRequest, { yieldPoint }: Yielding): Promise<FromWorker> {
    try {
      const outcome = await run(request, {
        emit: (event) => void this.#channel.send({ type: 'event', event }),
        control: () => this.#control,
        yieldPoint,
        sample: (step, files) => this.#sample(step, files),
      });
      return { type: 'done', outcome };
    } catch (error) {
      return { type: 'failed', error: jobError(error) };
    }
  }

  #sample(step: number, files: ReadonlyMap<string, Uint8Array>): Promise<readonly Sample[]> {
    return new Promise((resolve) => {
      this.#sampling = { resolve };
      void this.#channel.send({ type: 'sample', step, files });
    });
  }

  #sampled(samples: readonly Sample[]): void {
    this.#sampling?.resolve(samples);
    this.#sampling = null;
  }

  #warn(message: string): void {
    void this.#channel.send({ type: 'event', event: { type: 'message', level: 'warn', message } });
  }
}

/** A refusal as it is; anything else is our fault, and its stack helps to find it. */
function jobError(error: unknown): JobError {
  if (error instanceof GatewayError) return { code: error.code, message: error.message, param: error.param };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: 'internal_error', message, param: null };
}

const CLOCK: YieldClock = {
  now: () => performance.now(),
  sleep: (durationMs, signal) =>
    delay(durationMs, undefined, { signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    }),
};
