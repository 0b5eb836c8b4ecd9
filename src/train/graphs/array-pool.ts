// Arrays that a step is done with, for the next ones: activations are megabytes, and the garbage collector learns of them late.

export class ArrayPool {
  readonly #free = new Map<number, Float32Array[]>();

  /** Its values are whatever was there. */
  take(length: number): Float32Array {
    return this.#free.get(length)?.pop() ?? new Float32Array(length);
  }

  /** The caller must not use the array any more. */
  give(array: Float32Array): void {
    const free = this.#free.get(array.length);
    if (free === undefined) this.#free.set(array.length, [array]);
    else free.push(array);
  }
}
