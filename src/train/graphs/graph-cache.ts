// Compiled graphs by what they were compiled for. Beyond the capacity, the one that was used longest ago is disposed.

export class GraphCache<T extends { dispose(): void }> {
  readonly #capacity: number;
  /** Least recently used first. */
  readonly #graphs = new Map<string, T>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** What it returns may be disposed by the next call. */
  async get(key: string, compile: () => Promise<T>): Promise<T> {
    const graph = this.#graphs.get(key) ?? (await compile());
    this.#graphs.delete(key);
    this.#graphs.set(key, graph);
    const [oldest] = this.#graphs.keys();
    if (this.#graphs.size > this.#capacity) {
      this.#graphs.get(oldest!)!.dispose();
      this.#graphs.delete(oldest!);
    }
    return graph;
  }

  dispose(): void {
    for (const graph of this.#graphs.values()) graph.dispose();
    this.#graphs.clear();
  }
}
