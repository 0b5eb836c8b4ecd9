// The inputs of a run for one kind of adapter that has a bank: which adapter each row has, and the bank's arrays as tensors. Picks the
// graph's form: one adapter needs no gather, several are grouped, and the plain form can be forced for comparison.

import { AdapterBank, FLOAT_STORAGE, type BankLayout, type BankStorage } from '../adapters/bank.js';
import type { BankForm, BankKind } from '../model/adapter-routing.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Tensor } from '../runtime/tensor.js';

export type NamedTensor = readonly [string, Tensor];

/** How rows meet their adapters (model/adapter-routing.ts); `grouped` takes the form `single` where one adapter is in the run. */
export type BankPath = 'grouped' | 'rows' | 'rows16' | 'plain';

export interface BankRun {
  readonly form: BankForm;
  /** Owned by the bank. */
  readonly bank: readonly NamedTensor[];
  /** Made for this run: the caller disposes them. */
  readonly own: readonly NamedTensor[];
}

export class BankFeeds<A extends { readonly hash: string }> {
  readonly #runtime: Runtime;
  readonly #kind: BankKind;
  readonly #bank: AdapterBank<A>;
  readonly #path: BankPath;
  readonly #views = new Map<string, readonly NamedTensor[]>();
  #generation = -1;

  constructor(runtime: Runtime, kind: BankKind, layout: BankLayout<A>, numSlots: number, path: BankPath) {
    this.#runtime = runtime;
    this.#kind = kind;
    this.#bank = new AdapterBank(layout, numSlots, path === 'rows16' ? halfStorage(runtime) : FLOAT_STORAGE);
    this.#path = path;
  }

  /** Hashes of the adapters in the bank. */
  get activeAdapters(): readonly string[] {
    return this.#bank.adapters.map(({ hash }) => hash);
  }

  /** Brings the adapters of all sequences that hold a slot into the bank. Before prepare(). */
  activate(adapters: readonly A[]): void {
    if (adapters.length > 0) this.#bank.activate(adapters);
  }

  /** Inputs for rows of `numTokens` tokens; null is a row without an adapter of this kind. */
  prepare(rows: readonly (A | null)[], numTokens: number): BankRun {
    const slots = rows.map((adapter) => (adapter === null ? null : this.#bank.slotOf(adapter)));
    const used = slots.filter((slot) => slot !== null);
    if (used.length === 0) return { form: 'none', bank: [], own: [] };
    const first = Math.min(...used);
    const end = Math.max(...used) + 1;
    const groups = slots.map((slot) => (slot === null ? null : slot - first));
    if (this.#path === 'rows' || this.#path === 'rows16')
      return { form: this.#path, bank: this.#view(first, end - first), own: this.#byRow(groups) };
    if (this.#path === 'grouped' && end - first === 1)
      return { form: 'single', bank: this.#view(first, 1), own: this.#single(slots) };
    const own =
      this.#path === 'plain'
        ? this.#everyPair(groups, end - first, numTokens)
        : this.#grouped(groups, end - first, numTokens);
    return { form: this.#path, bank: this.#view(first, end - first), own };
  }

  dispose(): void {
    for (const view of this.#views.values()) for (const [, tensor] of view) tensor.dispose();
    this.#views.clear();
  }

  #byRow(groups: readonly (number | null)[]): NamedTensor[] {
    const adapters = Int32Array.from(groups, (group) => group ?? -1);
    return [[`${this.#kind}.adapters`, this.#runtime.tensor(adapters, [groups.length])]];
  }

  #single(slots: readonly (number | null)[]): NamedTensor[] {
    const mask = Float32Array.from(slots, (slot) => (slot === null ? 0 : 1));
    return [[`${this.#kind}.mask`, this.#runtime.tensor(mask, [slots.length, 1, 1])]];
  }

  #everyPair(groups: readonly (number | null)[], numGroups: number, numTokens: number): NamedTensor[] {
    const width = groups.length * numTokens;
    const mask = new Float32Array(numGroups * width);
    groups.forEach((group, row) => {
      if (group !== null)
        mask.fill(1, group * width + row * numTokens, group * width + (row + 1) * numTokens);
    });
    return [
      [`${this.#kind}.mask`, this.#runtime.tensor(mask, [numGroups, width, 1])],
      [`${this.#kind}.grouped_shape`, this.#shape(1, width)],
      [`${this.#kind}.back_shape`, this.#shape(groups.length, numTokens)],
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
      [`${this.#kind}.mask`, this.#runtime.tensor(mask, [numGroups, depth * numTokens, 1])],
      [`${this.#kind}.entries`, this.#runtime.tensor(entries, [numEntries])],
      [`${this.#kind}.back`, this.#runtime.tensor(back, [groups.length])],
      [`${this.#kind}.grouped_shape`, this.#shape(numGroups, depth * numTokens)],
      [`${this.#kind}.back_shape`, this.#shape(numEntries, numTokens)],
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
    return this.#bank.arrays.map(({ name, rows, cols, values }) => {
      const slots = values.subarray(first * rows * cols, (first + count) * rows * cols);
      return [name, this.#runtime.tensor(slots, [count, rows, cols])];
    });
  }
}

function halfStorage(runtime: Runtime): BankStorage {
  return {
    allocate: (length) => new Uint16Array(length),
    write: (values, place) => runtime.toHalf(values, place as Uint16Array),
  };
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
