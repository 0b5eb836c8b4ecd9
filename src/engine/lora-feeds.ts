// The low-rank inputs of a run: which adapter each row has, and the bank's arrays as tensors. Picks the graph's form:
// one adapter needs no gather, several are grouped, and the plain form can be forced for comparison.

import { LoraBank } from '../adapters/bank.js';
import type { LoraAdapter } from '../adapters/types.js';
import type { LoraForm } from '../model/adapter-nodes.js';
import type { Architecture } from '../model/architecture.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Tensor } from '../runtime/tensor.js';

export type NamedTensor = readonly [string, Tensor];

export interface LoraRun {
  readonly form: LoraForm;
  /** Owned by the bank. */
  readonly bank: readonly NamedTensor[];
  /** Made for this run: the caller disposes them. */
  readonly own: readonly NamedTensor[];
}

export class LoraFeeds {
  readonly #runtime: Runtime;
  readonly #bank: LoraBank;
  readonly #plain: boolean;
  readonly #views = new Map<string, readonly NamedTensor[]>();
  #generation = -1;

  constructor(runtime: Runtime, arch: Architecture, numSlots: number, plain: boolean) {
    this.#runtime = runtime;
    this.#bank = new LoraBank(arch, numSlots);
    this.#plain = plain;
  }

  /** Hashes of the adapters in the bank. */
  get activeAdapters(): readonly string[] {
    return this.#bank.adapters.map(({ hash }) => hash);
  }

  /** Brings the adapters of all sequences that hold a slot into the bank. Before prepare(). */
  activate(adapters: readonly LoraAdapter[]): void {
    if (adapters.length > 0) this.#bank.activate(adapters);
  }

  /** Inputs for rows of `numTokens` tokens; null is a row without low-rank update. */
  prepare(rows: readonly (LoraAdapter | null)[], numTokens: number): LoraRun {
    const slots = rows.map((adapter) => (adapter === null ? null : this.#bank.slotOf(adapter)));
    const used = slots.filter((slot) => slot !== null);
    if (used.length === 0) return { form: 'none', bank: [], own: [] };
    const first = Math.min(...used);
    const end = Math.max(...used) + 1;
    if (!this.#plain && end - first === 1)
      return { form: 'single', bank: this.#view(first, 1), own: this.#single(slots) };
    const form = this.#plain ? 'plain' : 'grouped';
    const groups = slots.map((slot) => (slot === null ? null : slot - first));
    const own = this.#plain
      ? this.#everyPair(groups, end - first, numTokens)
      : this.#grouped(groups, end - first, numTokens);
    return { form, bank: this.#view(first, end - first), own };
  }

  dispose(): void {
    for (const view of this.#views.values()) for (const [, tensor] of view) tensor.dispose();
    this.#views.clear();
  }

  #single(slots: readonly (number | null)[]): NamedTensor[] {
    const mask = Float32Array.from(slots, (slot) => (slot === null ? 0 : 1));
    return [['lora.mask', this.#runtime.tensor(mask, [slots.length, 1, 1])]];
  }

  #everyPair(groups: readonly (number | null)[], numGroups: number, numTokens: number): NamedTensor[] {
    const width = groups.length * numTokens;
    const mask = new Float32Array(numGroups * width);
    groups.forEach((group, row) => {
      if (group !== null)
        mask.fill(1, group * width + row * numTokens, group * width + (row + 1) * numTokens);
    });
    return [
      ['lora.mask', this.#runtime.tensor(mask, [numGroups, width, 1])],
      ['lora.grouped_shape', this.#shape(1, width)],
      ['lora.back_shape', this.#shape(groups.length, numTokens)],
    ];
  }

  #grouped(groups: readonly (number | null)[], numGroups: number, numTokens: number): NamedTensor[] {
    const { members, depth } = groupRows(groups, numGroups);
    const numEntries = numGroups * depth;
    const entries = new BigInt64Array(numEntries);
    const back = new BigInt64Array(groups.length);
    const mask = new Float32Array(numEntries * numTokens);
    members.forEach((rows, group) =>
      rows.forEach((row, i) => {
        const entry = group * depth + i;
        entries[entry] = BigInt(row);
        back[row] = BigInt(entry);
        if (groups[row] !== null) mask.fill(1, entry * numTokens, (entry + 1) * numTokens);
      }),
    );
    return [
      ['lora.mask', this.#runtime.tensor(mask, [numGroups, depth * numTokens, 1])],
      ['lora.entries', this.#runtime.tensor(entries, [numEntries])],
      ['lora.back', this.#runtime.tensor(back, [groups.length])],
      ['lora.grouped_shape', this.#shape(numGroups, depth * numTokens)],
      ['lora.back_shape', this.#shape(numEntries, numTokens)],
    ];
  }

  #shape(first: number, second: number): Tensor {
    return this.#runtime.tensor(BigInt64Array.of(BigInt(first), BigInt(second), -1n), [3]);
  }

  /** The bank's slots [first, first + count) as inputs. */
  #view(first: number, count: number): readonly NamedTensor[] {
    if (this.#generation !== this.#bank.generation) {
      this.dispose();
      this.#generation = this.#bank.generation;
    }
    const key = `${first}+${count}`;
    let view = this.#views.get(key);
    if (view === undefined) this.#views.set(key, (view = this.#makeView(first, count)));
    return view;
  }

  #makeView(first: number, count: number): readonly NamedTensor[] {
    const { rank, groups } = this.#bank;
    const slice = (array: Float32Array, rows: number, cols: number): Tensor =>
      this.#runtime.tensor(array.subarray(first * rows * cols, (first + count) * rows * cols), [
        count,
        rows,
        cols,
      ]);
    return groups.flatMap(({ name, a, b, inputSize, outputSizes }) => [
      [`lora.${name}.a`, slice(a, inputSize, outputSizes.length * rank)] as const,
      ...b.map((array, i) => [`lora.${name}.b${i}`, slice(array, rank, outputSizes[i]!)] as const),
    ]);
  }
}

/** Rows by group; those without one take the emptiest places (their mask is 0). `depth` is the fullest group's size. */
function groupRows(
  groups: readonly (number | null)[],
  numGroups: number,
): { readonly members: readonly number[][]; readonly depth: number } {
  const members: number[][] = Array.from({ length: numGroups }, () => []);
  groups.forEach((group, row) => group !== null && members[group]!.push(row));
  groups.forEach((group, row) => {
    if (group !== null) return;
    members.reduce((emptiest, other) => (other.length < emptiest.length ? other : emptiest)).push(row);
  });
  return { members, depth: Math.max(...members.map(({ length }) => length)) };
}
