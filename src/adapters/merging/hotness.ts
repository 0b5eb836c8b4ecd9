// Which adapter is asked for most: counts of requests that fade with time. Adapters that are asked for no more are forgotten.

/** A request counts half after this long. */
const HALF_LIFE_MS = 600_000;
const FORGOTTEN_BELOW = 0.01;

interface Heat {
  score: number;
  atMs: number;
}

export class Hotness {
  readonly #heats = new Map<string, Heat>();

  count(hash: string, nowMs: number): void {
    const heat = this.#heats.get(hash);
    this.#heats.set(hash, { score: 1 + (heat === undefined ? 0 : scoreAt(heat, nowMs)), atMs: nowMs });
  }

  forget(hash: string): void {
    this.#heats.delete(hash);
  }

  score(hash: string, nowMs: number): number {
    const heat = this.#heats.get(hash);
    return heat === undefined ? 0 : scoreAt(heat, nowMs);
  }

  /** Hottest first. */
  ranking(nowMs: number): readonly { readonly hash: string; readonly score: number }[] {
    for (const [hash, heat] of this.#heats)
      if (scoreAt(heat, nowMs) < FORGOTTEN_BELOW) this.#heats.delete(hash);
    return [...this.#heats]
      .map(([hash, heat]) => ({ hash, score: scoreAt(heat, nowMs) }))
      .toSorted((a, b) => b.score - a.score);
  }
}

function scoreAt({ score, atMs }: Heat, nowMs: number): number {
  return score * 2 ** (-(nowMs - atMs) / HALF_LIFE_MS);
}
