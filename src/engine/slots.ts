// Which sequence holds which slot. Slots in use are [0, size): decoding sequences first, so that a decode step is one range,
// then those still in prefill. Integers only; moving K/V is the caller's part, told through `Mover`.

import { assert } from '../errors.js';

/** Carries out a change of place; `a` and `b` are slots. */
export interface Mover {
  move(from: number, to: number): void;
  swap(a: number, b: number): void;
}

export class SlotTable<T> {
  readonly capacity: number;
  readonly #order: T[] = [];
  readonly #mover: Mover;
  #numDecoding = 0;

  constructor(capacity: number, mover: Mover) {
    this.capacity = capacity;
    this.#mover = mover;
  }

  /** Slots [0, numDecoding). */
  get decoding(): readonly T[] {
    return this.#order.slice(0, this.#numDecoding);
  }

  /** Slots [numDecoding, size), longest in prefill first unless a release moved one. */
  get prefilling(): readonly T[] {
    return this.#order.slice(this.#numDecoding);
  }

  get all(): readonly T[] {
    return this.#order;
  }

  get numDecoding(): number {
    return this.#numDecoding;
  }

  get size(): number {
    return this.#order.length;
  }

  slotOf(item: T): number {
    const slot = this.#order.indexOf(item);
    assert(slot !== -1, 'the sequence holds no slot');
    return slot;
  }

  canAdmit(): boolean {
    return this.#order.length < this.capacity;
  }

  /** Takes a slot for prefill. */
  admit(item: T): void {
    assert(this.canAdmit() && !this.#order.includes(item), 'no slot to admit to');
    this.#order.push(item);
  }

  /** Prefill is done: joins the decoding range. */
  promote(item: T): void {
    const slot = this.slotOf(item);
    const first = this.#numDecoding;
    assert(slot >= first, 'the sequence decodes already');
    if (slot !== first) {
      this.#mover.swap(first, slot);
      [this.#order[first], this.#order[slot]] = [item, this.#order[first]!];
    }
    this.#numDecoding++;
  }

  /** Gives the slot back; others move into the hole so that both ranges stay whole. */
  release(item: T): void {
    let hole = this.slotOf(item);
    if (hole < this.#numDecoding) {
      hole = this.#fill(hole, this.#numDecoding - 1);
      this.#numDecoding--;
    }
    this.#fill(hole, this.#order.length - 1);
    this.#order.pop();
  }

  #fill(hole: number, from: number): number {
    if (hole !== from) {
      this.#mover.move(from, hole);
      this.#order[hole] = this.#order[from]!;
    }
    return from;
  }
}
