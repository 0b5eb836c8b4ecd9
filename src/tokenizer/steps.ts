// Work that can be left off now and then: a generator yields nothing but the chance to do so, and returns the result.

export type Steps<T> = Generator<undefined, T, undefined>;

/** Characters or merges after which a step ends: a few milliseconds. */
export const WORK_PER_STEP = 1 << 14;
/** Characters after which a step ends that only searches or copies them. */
export const TEXT_PER_STEP = 1 << 17;

/** Adds up work, and tells each time that a step's has been done. */
export function countWork(perStep: number): (work: number) => boolean {
  let done = 0;
  return (work) => {
    done += work;
    if (done < perStep) return false;
    done = 0;
    return true;
  };
}

/** All steps at once. */
export function runSteps<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
