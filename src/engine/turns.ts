// Whose turn it is: a count of rounds, in each of which every adapter that waits is admitted once (start-time fair queueing).

export class Turns {
  #now = 0;
  /** The turn of each key's latest admission; only those of the current round or later are kept. */
  readonly #latest = new Map<string, number>();

  /** The earliest goes first. A key that was not admitted in this round has the current turn, no claim to rounds it missed. */
  turnOf(key: string): number {
    const latest = this.#latest.get(key);
    return latest === undefined ? this.#now : latest + 1;
  }

  admitted(key: string): void {
    const turn = this.turnOf(key);
    this.#latest.set(key, turn);
    if (turn <= this.#now) return;
    this.#now = turn;
    for (const [other, latest] of this.#latest) if (latest < turn) this.#latest.delete(other);
  }
}
