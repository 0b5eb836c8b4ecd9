// Work that can be left off now and then: a generator yields nothing but the chance to do so, and returns the result.

export type Steps<T> = Generator<undefined, T, undefined>;

/** Characters or merges after which a step ends: a few milliseconds. */
export const WORK_PER_STEP = 1 << 14;

/** All steps at once. */
export function runSteps<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
