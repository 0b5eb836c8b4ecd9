// Who waits for a slot, and who gets the next one: the highest priority, then the tenant with the fewest virtual tokens, then its fairness
// id, then that one's adapter, each by the same rule, then the oldest request. What is resident in the adapter bank plays no part: the
// bank has a place for every slot.
//
// Bounds that hold whatever others do: a priority that waits is passed over by higher ones at most MAX_PASSES times in a row, and an adapter
// (a fairness id) by others of its fairness id (its tenant) at most MAX_PASSED times, so no stream of new ones keeps it out.

import { assert } from '../errors.js';
import { FairNode } from './fairness.js';
import { makesRoom, type QueueHolder } from './queue-share.js';
import type { FairClaim } from './types.js';

export const MAX_PASSES = 8;

/** What a request is scheduled by. */
export interface Claim extends FairClaim {
  /** What shares a turn within a fairness id: one adapter version, or the base. */
  readonly adapterKey: string;
}

interface PriorityClass {
  readonly priority: number;
  readonly root: FairNode;
  /** Admissions of higher classes since its own last one while it waited. */
  passes: number;
}

interface Entry<T> extends Claim {
  readonly item: T;
  readonly class: PriorityClass;
  readonly leaf: FairNode;
}

export class AdmissionQueue<T> {
  /** Oldest first. */
  readonly #waiting: Entry<T>[] = [];
  /** Waiting and running. */
  readonly #entries = new Map<T, Entry<T>>();
  readonly #classes = new Map<number, PriorityClass>();

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** Those that wait, oldest first. */
  get items(): readonly T[] {
    return this.#waiting.map(({ item }) => item);
  }

  add(item: T, claim: Claim): void {
    const { tenant, fairnessId, priority, adapterKey } = claim;
    const own = this.#classes.get(priority) ?? { priority, root: new FairNode(), passes: 0 };
    this.#classes.set(priority, own);
    const leaf = own.root.arrive([tenant, fairnessId ?? '', adapterKey]);
    const entry = { item, class: own, leaf, tenant, fairnessId, priority, adapterKey };
    this.#entries.set(item, entry);
    this.#waiting.push(entry);
  }

  /** Who gives its place to an arriving request where no more may wait; null where that one is refused. Changes nothing. */
  makesRoom(arriving: QueueHolder): T | null {
    return makesRoom(this.#waiting, arriving)?.item ?? null;
  }

  /** Leaves the queue without a slot; of no effect where it does not wait. */
  withdraw(item: T): void {
    const index = this.#waiting.findIndex((entry) => entry.item === item);
    if (index === -1) return;
    const [entry] = this.#waiting.splice(index, 1);
    this.#entries.delete(item);
    entry!.leaf.withdrawn();
    if (entry!.class.root.numWaiting === 0) entry!.class.passes = 0;
  }

  /** Takes who gets the next slot out of the queue; something must wait. */
  admit(): T {
    const entry = this.#next();
    this.#countPasses(entry);
    this.#waiting.splice(this.#waiting.indexOf(entry), 1);
    entry.leaf.admitted();
    return entry.item;
  }

  /** Service to an admitted request, in weighted tokens; negative takes back what was not given. */
  charge(item: T, tokens: number): void {
    this.#running(item).leaf.charge(tokens);
  }

  /** The slot is free again. */
  ended(item: T): void {
    this.#running(item).leaf.ended();
    this.#entries.delete(item);
  }

  #next(): Entry<T> {
    const leaf = this.#nextClass().root.next();
    const chosen = this.#waiting.find((entry) => entry.leaf === leaf);
    assert(chosen !== undefined, 'what is to be admitted waits');
    return chosen;
  }

  /** The highest, unless a lower one was passed over often enough. */
  #nextClass(): PriorityClass {
    const waiting = [...this.#classes.values()].filter(({ root }) => root.numWaiting > 0);
    const urgency = ({ passes }: PriorityClass): number => (passes >= MAX_PASSES ? passes : 0);
    return waiting.reduce((best, other) => {
      const order = urgency(other) - urgency(best) || other.priority - best.priority;
      return order > 0 ? other : best;
    });
  }

  #countPasses(admitted: Entry<T>): void {
    for (const other of this.#classes.values())
      if (other.priority < admitted.priority && other.root.numWaiting > 0) other.passes++;
    admitted.class.passes = 0;
  }

  #running(item: T): Entry<T> {
    const entry = this.#entries.get(item);
    assert(entry !== undefined, 'the request is not in the queue or in a slot');
    return entry;
  }
}
