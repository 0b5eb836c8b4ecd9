// Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024) as a tree: whoever was served the fewest
// tokens among those that wait goes first, and in the same way among its own parts. Policy only: no clock, no tensors.
//
// A counter takes no part while its owner has nothing waiting. When it comes back it is lifted to the least counter that waits: time spent
// away is no claim to catch up, and service taken while alone is no debt beyond what others were then served.

/** What service costs. A token of an answer is a step of its row; prompt tokens run many at once. */
export const PROMPT_TOKEN_WEIGHT = 1;
export const OUTPUT_TOKEN_WEIGHT = 2;

/** Below the tenants: how often in a row siblings may go before one that waits. Keys there are of the clients' making, without end. */
export const MAX_PASSED = 64;

/** Idle counters that are kept because they are ahead of the others; keys may be of the clients' making. */
const MAX_IDLE = 1024;

export class FairNode {
  readonly #parent: FairNode | null;
  readonly #key: string;
  readonly #children = new Map<string, FairNode>();
  #tokens = 0;
  #numWaiting = 0;
  #numRunning = 0;
  /** Counts arrivals and admissions among the children; the least is whose turn is longest ago. */
  #turn = 0;
  #nextTurn = 0;
  /** Admissions of siblings while this one waited, since its own last one. */
  #passed = 0;
  #lastServed: FairNode | null = null;

  constructor(parent: FairNode | null = null, key = '') {
    this.#parent = parent;
    this.#key = key;
  }

  get tokens(): number {
    return this.#tokens;
  }

  get isRoot(): boolean {
    return this.#parent === null;
  }

  get numWaiting(): number {
    return this.#numWaiting;
  }

  get numChildren(): number {
    return this.#children.size;
  }

  /** A request below this node, by the keys that lead to it, begins to wait. Gives its leaf. */
  arrive(path: readonly string[]): FairNode {
    this.#numWaiting++;
    const [key, ...rest] = path;
    if (key === undefined) return this;
    const child = this.#children.get(key) ?? new FairNode(this, key);
    this.#children.set(key, child);
    if (child.#numWaiting === 0) {
      child.#tokens = Math.max(child.#tokens, this.#floor());
      child.#turn = this.#nextTurn++;
      child.#passed = 0;
    }
    return child.arrive(rest);
  }

  /** The leaf that is served next. Something must wait. */
  next(): FairNode {
    const waiting = [...this.#children.values()].filter((child) => child.#numWaiting > 0);
    return waiting.length === 0 ? this : waiting.reduce(FairNode.#first).next();
  }

  /** A request of this leaf got its slot. */
  admitted(): void {
    this.#numWaiting--;
    this.#numRunning++;
    if (this.#parent === null) return;
    this.#turn = this.#parent.#nextTurn++;
    this.#parent.#lastServed = this;
    for (const sibling of this.#parent.#children.values()) if (sibling.#numWaiting > 0) sibling.#passed++;
    this.#passed = 0;
    this.#parent.admitted();
  }

  /** Service to a request of this leaf, weighted; negative takes back what was charged and not given. */
  charge(tokens: number): void {
    this.#tokens += tokens;
    this.#parent?.charge(tokens);
  }

  /** A request of this leaf left the queue without a slot. */
  withdrawn(): void {
    this.#numWaiting--;
    this.#forget();
    this.#parent?.withdrawn();
  }

  /** A request of this leaf gave its slot back. */
  ended(): void {
    this.#numRunning--;
    this.#forget();
    this.#parent?.ended();
  }

  /** Where a counter that comes back begins: at the least that waits, or at that of the last served where none waits. */
  #floor(): number {
    const waiting = [...this.#children.values()].filter((child) => child.#numWaiting > 0);
    if (waiting.length === 0) return this.#lastServed?.tokens ?? 0;
    return waiting.reduce((least, { tokens }) => Math.min(least, tokens), Infinity);
  }

  /** Drops counters that would be lifted anyway, and the earliest made of too many others. */
  #forget(): void {
    const floor = this.#floor();
    for (const child of this.#children.values())
      if (child.#isIdle && (child.#tokens <= floor || this.#children.size > MAX_IDLE))
        this.#children.delete(child.#key);
  }

  get #urgency(): number {
    const isTenant = this.#parent?.isRoot ?? true;
    return !isTenant && this.#passed >= MAX_PASSED ? this.#passed : 0;
  }

  get #isIdle(): boolean {
    return this.#numWaiting === 0 && this.#numRunning === 0;
  }

  /** Who was passed over too often, then fewest tokens, then fewest running, so that who comes anew gets the next slot, then whose turn is longest ago. */
  static #first(this: void, a: FairNode, b: FairNode): FairNode {
    const order =
      b.#urgency - a.#urgency || a.#tokens - b.#tokens || a.#numRunning - b.#numRunning || a.#turn - b.#turn;
    return order <= 0 ? a : b;
  }
}
