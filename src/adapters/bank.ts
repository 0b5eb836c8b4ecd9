// The adapters of the batch side by side in memory, as the graph wants them: for each of the graph's inputs a matrix an adapter, padded
// with zeros to the widest adapter's width (a LoRA's rank, a bottleneck's size), rounded up. What the matrices are is the layout's
// knowledge. Slots [0, size) are filled. Adapters stay until their place is needed, so that rows that come and go copy nothing.

import { assert } from '../errors.js';

/** One input of the graph: [slots, rows, cols]. */
export interface BankMatrix<A> {
  /** As in the graph: `lora.layers.0.qkv.a`. */
  readonly name: string;
  /** [rows, cols] at a width of the bank. */
  shape(width: number): readonly [number, number];
  /** Writes the adapter's matrix into its slot, which is zero. */
  write(adapter: A, width: number, slot: Float32Array): void;
}

export interface BankLayout<A> {
  widthOf(adapter: A): number;
  readonly matrices: readonly BankMatrix<A>[];
}

export type BankValues = Float32Array | Uint16Array;

/** How the numbers of a bank are kept. */
export interface BankStorage {
  allocate(length: number): BankValues;
  /** Writes `values` into `place`, which is as long. */
  write(values: Float32Array, place: BankValues): void;
}

export const FLOAT_STORAGE: BankStorage = {
  allocate: (length) => new Float32Array(length),
  write: (values, place) => place.set(values),
};

export interface BankArray {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  /** [capacity, rows, cols]. */
  readonly values: BankValues;
}

const MIN_WIDTH = 8;

export class AdapterBank<A extends { readonly hash: string }> {
  readonly #layout: BankLayout<A>;
  readonly #maxSlots: number;
  readonly #storage: BankStorage;
  #arrays: readonly BankArray[] = [];
  #slots: (A | null)[] = [];
  #width = 0;
  #generation = 0;

  constructor(layout: BankLayout<A>, maxSlots: number, storage: BankStorage) {
    this.#layout = layout;
    this.#maxSlots = maxSlots;
    this.#storage = storage;
  }

  get width(): number {
    return this.#width;
  }

  /** In the order of the layout's matrices. */
  get arrays(): readonly BankArray[] {
    return this.#arrays;
  }

  get capacity(): number {
    return this.#slots.length;
  }

  /** Changes when the arrays were replaced. */
  get generation(): number {
    return this.#generation;
  }

  get adapters(): readonly A[] {
    return this.#slots.filter((adapter) => adapter !== null);
  }

  slotOf(adapter: A): number {
    const slot = this.#slots.findIndex((other) => other?.hash === adapter.hash);
    assert(slot !== -1, 'the adapter is not in the bank');
    return slot;
  }

  /** Sees to it that all of `active` are in slots [0, n); returns n, at most a quarter (and one) more than there are adapters. */
  activate(active: readonly A[]): number {
    assert(active.length <= this.#maxSlots, 'more adapters than the bank has slots');
    const width = widthBucket(Math.max(...active.map((adapter) => this.#layout.widthOf(adapter))));
    const missing = active.filter((adapter) => !this.#has(adapter));
    if (width > this.#width || (missing.length > 0 && width < this.#width))
      this.#rebuild(width, active, Math.max(this.capacity, active.length));
    else {
      if (active.length > this.capacity)
        this.#rebuild(width, [...this.adapters, ...missing], 2 * active.length);
      for (const adapter of missing) if (!this.#has(adapter)) this.#fill(this.#place(active), adapter);
    }
    const used = (): number => 1 + Math.max(...active.map((adapter) => this.slotOf(adapter)));
    if (used() > active.length + 1 + active.length / 4) this.#compact(active);
    return used();
  }

  #has(adapter: A): boolean {
    return this.#slots.some((other) => other?.hash === adapter.hash);
  }

  /** The first slot whose adapter is not in use. */
  #place(active: readonly A[]): number {
    const inUse = new Set(active.map(({ hash }) => hash));
    return this.#slots.findIndex((other) => other === null || !inUse.has(other.hash));
  }

  #compact(active: readonly A[]): void {
    for (const adapter of active) {
      const slot = this.slotOf(adapter);
      if (slot < active.length) continue;
      const target = this.#place(active);
      if (target >= slot) continue;
      this.#slots[slot] = null;
      this.#fill(target, adapter);
    }
  }

  #rebuild(width: number, adapters: readonly A[], capacity: number): void {
    const slots = Math.min(this.#maxSlots, capacity);
    const kept = adapters.slice(0, slots);
    this.#width = width;
    this.#slots = Array.from({ length: slots }, () => null);
    // The old arrays can go before the new ones come.
    this.#arrays = [];
    this.#arrays = this.#layout.matrices.map((matrix) => {
      const [rows, cols] = matrix.shape(width);
      return { name: matrix.name, rows, cols, values: this.#storage.allocate(slots * rows * cols) };
    });
    this.#generation++;
    kept.forEach((adapter, slot) => this.#fill(slot, adapter));
  }

  #fill(slot: number, adapter: A): void {
    this.#slots[slot] = adapter;
    this.#layout.matrices.forEach((matrix, index) => {
      const { rows, cols, values } = this.#arrays[index]!;
      const place = values.subarray(slot * rows * cols, (slot + 1) * rows * cols);
      const whole = new Float32Array(rows * cols);
      matrix.write(adapter, this.#width, whole);
      this.#storage.write(whole, place);
    });
  }
}

/** Widths are rounded up to a power of two, so that a slightly wider adapter changes nothing. */
function widthBucket(width: number): number {
  let bucket = MIN_WIDTH;
  while (bucket < width) bucket *= 2;
  return bucket;
}

/** Copies [rows, cols] into the first columns, from `firstCol` on, of rows that are `width` wide. */
export function writeColumns(
  values: Float32Array,
  cols: number,
  slot: Float32Array,
  width: number,
  firstCol = 0,
): void {
  for (let from = 0, to = firstCol; from < values.length; from += cols, to += width)
    for (let col = 0; col < cols; col++) slot[to + col] = values[from + col]!;
}
