// The adapters of the batch side by side in memory, as the graph wants them: A [slots, K, P*R] for each group of P projections,
// B [slots, R, N] for each projection; R is the widest adapter's rank, rounded up, and narrower ones are padded with zeros.
// Slots [0, size) are filled. Adapters stay until their place is needed, so that rows that come and go copy nothing.

import { assert } from '../errors.js';
import { PROJECTIONS, type Architecture } from '../model/architecture.js';
import { groupShape } from '../model/group-shape.js';
import { GROUP_NAMES, GROUPS, type GroupName } from '../model/projection-group.js';
import type { LoraAdapter } from './types.js';

export interface BankGroup {
  /** As in the graph: `layers.0.qkv`. */
  readonly name: string;
  readonly layer: number;
  readonly group: GroupName;
  readonly inputSize: number;
  readonly outputSizes: readonly number[];
  /** [capacity, K, P*R]. */
  readonly a: Float32Array;
  /** One a projection: [capacity, R, N]. */
  readonly b: readonly Float32Array[];
}

const MIN_RANK = 8;

export class LoraBank {
  readonly #arch: Architecture;
  readonly #maxSlots: number;
  #groups: readonly BankGroup[] = [];
  #slots: (LoraAdapter | null)[] = [];
  #rank = 0;
  #generation = 0;

  constructor(arch: Architecture, maxSlots: number) {
    this.#arch = arch;
    this.#maxSlots = maxSlots;
  }

  get rank(): number {
    return this.#rank;
  }

  get groups(): readonly BankGroup[] {
    return this.#groups;
  }

  get capacity(): number {
    return this.#slots.length;
  }

  /** Changes when the arrays were replaced. */
  get generation(): number {
    return this.#generation;
  }

  get adapters(): readonly LoraAdapter[] {
    return this.#slots.filter((adapter) => adapter !== null);
  }

  slotOf(adapter: LoraAdapter): number {
    const slot = this.#slots.findIndex((other) => other?.hash === adapter.hash);
    assert(slot !== -1, 'the adapter is not in the bank');
    return slot;
  }

  /** Sees to it that all of `active` are in slots [0, n); returns n, at most a quarter (and one) more than there are adapters. */
  activate(active: readonly LoraAdapter[]): number {
    assert(active.length <= this.#maxSlots, 'more adapters than the bank has slots');
    const rank = rankBucket(Math.max(...active.map(({ maxRank }) => maxRank)));
    const missing = active.filter((adapter) => !this.#has(adapter));
    if (rank > this.#rank || (missing.length > 0 && rank < this.#rank))
      this.#rebuild(rank, active, Math.max(this.capacity, active.length));
    else {
      if (active.length > this.capacity)
        this.#rebuild(rank, [...this.adapters, ...missing], 2 * active.length);
      for (const adapter of missing) if (!this.#has(adapter)) this.#fill(this.#place(active), adapter);
    }
    const used = (): number => 1 + Math.max(...active.map((adapter) => this.slotOf(adapter)));
    if (used() > active.length + 1 + active.length / 4) this.#compact(active);
    return used();
  }

  #has(adapter: LoraAdapter): boolean {
    return this.#slots.some((other) => other?.hash === adapter.hash);
  }

  /** The first slot whose adapter is not in use. */
  #place(active: readonly LoraAdapter[]): number {
    const inUse = new Set(active.map(({ hash }) => hash));
    return this.#slots.findIndex((other) => other === null || !inUse.has(other.hash));
  }

  #compact(active: readonly LoraAdapter[]): void {
    for (const adapter of active) {
      const slot = this.slotOf(adapter);
      if (slot < active.length) continue;
      const target = this.#place(active);
      if (target >= slot) continue;
      this.#slots[slot] = null;
      this.#fill(target, adapter);
    }
  }

  #rebuild(rank: number, adapters: readonly LoraAdapter[], capacity: number): void {
    const slots = Math.min(this.#maxSlots, capacity);
    const kept = adapters.slice(0, slots);
    this.#rank = rank;
    this.#slots = Array.from({ length: slots }, () => null);
    this.#groups = [];
    this.#groups = this.#allocate(rank, slots);
    this.#generation++;
    kept.forEach((adapter, slot) => this.#fill(slot, adapter));
  }

  #allocate(rank: number, slots: number): BankGroup[] {
    const groups: BankGroup[] = [];
    for (let layer = 0; layer < this.#arch.numLayers; layer++) {
      for (const group of GROUP_NAMES) {
        const shape = groupShape(this.#arch, layer, group);
        const { inputSize, outputSizes } = shape;
        groups.push({
          ...shape,
          layer,
          group,
          a: new Float32Array(slots * inputSize * outputSizes.length * rank),
          b: outputSizes.map((size) => new Float32Array(slots * rank * size)),
        });
      }
    }
    return groups;
  }

  #fill(slot: number, adapter: LoraAdapter): void {
    this.#slots[slot] = adapter;
    for (const group of this.#groups) {
      GROUPS[group.group].forEach((projection, part) => {
        const delta = adapter.layers[group.layer]?.lora[projection];
        this.#fillA(group, slot, part, delta?.a ?? null, delta?.rank ?? 0);
        const b = group.b[part]!;
        const size = this.#rank * group.outputSizes[part]!;
        b.fill(0, slot * size, (slot + 1) * size);
        if (delta !== undefined) b.set(delta.b, slot * size);
      });
    }
  }

  #fillA(group: BankGroup, slot: number, part: number, a: Float32Array | null, rank: number): void {
    const width = group.outputSizes.length * this.#rank;
    const first = slot * group.inputSize * width + part * this.#rank;
    for (let k = 0; k < group.inputSize; k++) {
      const at = first + k * width;
      for (let r = 0; r < rank; r++) group.a[at + r] = a![k * rank + r]!;
      for (let r = rank; r < this.#rank; r++) group.a[at + r] = 0;
    }
  }
}

/** Ranks are rounded up to a power of two, so that a slightly wider adapter changes nothing. */
function rankBucket(rank: number): number {
  let bucket = MIN_RANK;
  while (bucket < rank) bucket *= 2;
  return bucket;
}

/** Whether an adapter has anything beside low-rank updates. */
export function hasAffine(adapter: LoraAdapter): boolean {
  return adapter.layers.some(({ affine }) =>
    PROJECTIONS.some((projection) => affine[projection] !== undefined),
  );
}
