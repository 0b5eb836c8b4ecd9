// Arrays that a step is done with, for the next ones: activations are megabytes, and the garbage collector learns of them late.
// Lengths differ from batch to batch, so capacities go in steps, and what has lain free is let go of before much more is held than was
// ever in use at once.

/** Steps between a power of two and the next. */
const STEPS = 8;
/** What may be held, over what was in use at most. */
const SLACK = 1.25;

export class ArrayPool {
  /** By capacity in elements; the one that was asked for longest ago comes first. */
  readonly #free = new Map<number, ArrayBuffer[]>();
  readonly #own = new WeakSet<ArrayBufferLike>();
  /** In elements. */
  #numInUse = 0;
  #numFree = 0;
  #mostInUse = 0;

  /** Elements held: those in use, and those free for use. */
  get numHeld(): number {
    return this.#numInUse + this.#numFree;
  }

  /** Its values are whatever was there. */
  take(length: number): Float32Array {
    const capacity = capacityFor(length);
    const free = this.#free.get(capacity) ?? [];
    this.#free.delete(capacity);
    this.#free.set(capacity, free);
    this.#numInUse += capacity;
    this.#mostInUse = Math.max(this.#mostInUse, this.#numInUse);
    const buffer = free.pop();
    if (buffer === undefined) return new Float32Array(this.#allocate(capacity), 0, length);
    this.#numFree -= capacity;
    return new Float32Array(buffer, 0, length);
  }

  /** The caller must not use the array any more. Arrays that are not the pool's are left to the garbage collector. */
  give({ buffer }: Float32Array): void {
    if (!this.#own.has(buffer)) return;
    const capacity = buffer.byteLength / Float32Array.BYTES_PER_ELEMENT;
    this.#free.get(capacity)!.push(buffer as ArrayBuffer);
    this.#numInUse -= capacity;
    this.#numFree += capacity;
  }

  /** `capacity` counts as in use already. */
  #allocate(capacity: number): ArrayBuffer {
    for (const [other, free] of this.#free)
      while (free.length > 0 && this.numHeld > SLACK * this.#mostInUse) {
        this.#own.delete(free.pop()!);
        this.#numFree -= other;
      }
    const buffer = new ArrayBuffer(capacity * Float32Array.BYTES_PER_ELEMENT);
    this.#own.add(buffer);
    return buffer;
  }
}

function capacityFor(length: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, length))) - Math.log2(STEPS));
  return Math.ceil(length / step) * step;
}
