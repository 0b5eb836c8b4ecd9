// How often the user has interrupted: once asks for an orderly end, twice for one at once.
import type { Terminal } from './terminal.js';

export const INTERRUPTED = 130;

export interface Interrupts {
  /** Resolves at the interrupt of that number, from 1. */
  reach(count: number): Promise<void>;
  /** Interrupts so far. */
  readonly seen: number;
  stop(): void;
}

export function countInterrupts(terminal: Pick<Terminal, 'onInterrupt'>): Interrupts {
  let seen = 0;
  let waiting: { count: number; resolve: () => void }[] = [];
  const stop = terminal.onInterrupt(() => {
    seen++;
    for (const { count, resolve } of waiting) if (seen >= count) resolve();
    waiting = waiting.filter(({ count }) => seen < count);
  });
  const reach = (count: number) =>
    new Promise<void>((resolve) => {
      if (seen >= count) resolve();
      else waiting.push({ count, resolve });
    });
  return {
    reach,
    stop,
    get seen() {
      return seen;
    },
  };
}
