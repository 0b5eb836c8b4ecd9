// When the trainer lets the server's requests compute. While the server is busy, each piece of work that the run did is followed by a wait
// that makes up the rest of its share, or lasts until the server is idle. Knows only times and what it is told.

import { setImmediate } from 'node:timers/promises';
import type { YieldPoint } from '../types.js';
import type { YieldSettings } from './messages.js';

export interface Yielding {
  readonly yieldPoint: YieldPoint;
  setBusy(isBusy: boolean): void;
  /** While the run is to end, nobody waits. */
  setEnding(isEnding: boolean): void;
}

export interface YieldClock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Resolves after this long or at the signal. */
  sleep(durationMs: number, signal: AbortSignal): Promise<void>;
}

/** The longest that a timer can be set for. */
const LONGEST_SLEEP_MS = 2 ** 31 - 1;

export function createYielding({ isOn, minShare }: YieldSettings, clock: YieldClock): Yielding {
  let busySinceMs: number | null = null;
  let isEnding = false;
  /** When the run was last let go on. */
  let resumedMs = clock.now();
  let change = new AbortController();

  /** work : wait = minShare : 1 - minShare, of the work done while the server was busy. */
  function waitLeft(arrivedMs: number): number {
    if (!isOn || isEnding || busySinceMs === null) return 0;
    const workedMs = Math.max(0, arrivedMs - Math.max(resumedMs, busySinceMs));
    const waitMs = minShare === 0 ? Infinity : workedMs * (1 / minShare - 1);
    return arrivedMs + waitMs - clock.now();
  }

  function announceChange(): void {
    change.abort();
    change = new AbortController();
  }

  return {
    async yieldPoint() {
      // A turn of the event loop, so that messages arrive at all.
      await setImmediate();
      const arrivedMs = clock.now();
      for (let leftMs = waitLeft(arrivedMs); leftMs > 0; leftMs = waitLeft(arrivedMs))
        await clock.sleep(Math.min(LONGEST_SLEEP_MS, leftMs), change.signal);
      resumedMs = clock.now();
    },
    setBusy(isBusy) {
      if (!isBusy) busySinceMs = null;
      else busySinceMs ??= clock.now();
      announceChange();
    },
    setEnding(isNowEnding) {
      isEnding = isNowEnding;
      announceChange();
    },
  };
}
