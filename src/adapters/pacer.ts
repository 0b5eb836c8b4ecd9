// Cuts long synchronous work into pieces: whoever loops over numbers says how many were handled, and is held back now and then so that
// the event loop can serve others. Counts work instead of time, so a run always yields at the same places.

import { setImmediate } from 'node:timers/promises';

export interface Pacer {
  /** Waits for one turn of the event loop once enough work has come together since the last wait. */
  spent(numbers: number): Promise<void>;
}

/** About a millisecond where each number is read, checked, moved and checked again. */
const NUMBERS_PER_TURN = 1 << 17;

export function createPacer(numbersPerTurn: number = NUMBERS_PER_TURN): Pacer {
  let sinceTurn = 0;
  return {
    async spent(numbers) {
      sinceTurn += numbers;
      if (sinceTurn < numbersPerTurn) return;
      sinceTurn = 0;
      await setImmediate();
    },
  };
}
