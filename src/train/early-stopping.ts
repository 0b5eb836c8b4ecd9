// Which evaluation was best, and when further ones are pointless.

export interface EarlyStopping {
  readonly bestLoss: number | null;
  readonly bestStep: number | null;
  /** Evaluations since the best one. */
  readonly numWorse: number;
}

export const NOTHING_EVALUATED: EarlyStopping = { bestLoss: null, bestStep: null, numWorse: 0 };

/** Better is less, by any amount; an equal loss is not better. */
export function recordEvaluation(before: EarlyStopping, step: number, loss: number): EarlyStopping {
  if (before.bestLoss === null || loss < before.bestLoss)
    return { bestLoss: loss, bestStep: step, numWorse: 0 };
  return { ...before, numWorse: before.numWorse + 1 };
}

/** `patience` null never stops. */
export function isExhausted({ numWorse }: EarlyStopping, patience: number | null): boolean {
  return patience !== null && numWorse >= patience;
}
