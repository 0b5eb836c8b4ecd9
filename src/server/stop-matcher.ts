// Finds the first stop string in a text that arrives in pieces, and holds back what may still become one.
// It walks character by character (Knuth, Morris, Pratt), so the outcome cannot depend on where the pieces were cut.

interface Pattern {
  readonly text: string;
  /** border[i]: length of the longest proper prefix of text that ends at i. */
  readonly border: readonly number[];
}

export class StopMatcher {
  readonly #patterns: readonly Pattern[];
  /** Per pattern: how much of it the text so far ends with. */
  readonly #matched: number[];
  #held = '';
  #stopped = false;

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#patterns = stops.map((text) => ({ text, border: borders(text) }));
    this.#matched = stops.map(() => 0);
  }

  /** A stop string was seen: everything before it has been given out, and nothing more will be. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that became certain: no part of it belongs to a stop string. */
  push(text: string): string {
    if (this.#stopped) return '';
    if (this.#patterns.length === 0) return text;
    const seen = this.#held + text;
    for (let at = this.#held.length; at < seen.length; at++) {
      const length = this.#advance(seen[at]!);
      if (length > 0) return this.#stop(seen.slice(0, at + 1 - length));
    }
    const certain = seen.length - Math.max(...this.#matched);
    this.#held = seen.slice(certain);
    return seen.slice(0, certain);
  }

  /** The end of the text: what was held back turned out to be no stop string. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** Length of the longest stop string that ends with this character; 0 where none does. */
  #advance(char: string): number {
    let longest = 0;
    for (const [index, { text, border }] of this.#patterns.entries()) {
      let length = this.#matched[index]!;
      while (length > 0 && text[length] !== char) length = border[length - 1]!;
      if (text[length] === char) length++;
      this.#matched[index] = length;
      if (length === text.length) longest = Math.max(longest, length);
    }
    return longest;
  }

  #stop(before: string): string {
    this.#stopped = true;
    this.#held = '';
    return before;
  }
}

function borders(text: string): number[] {
  const border = [0];
  for (let at = 1, length = 0; at < text.length; at++) {
    while (length > 0 && text[at] !== text[length]) length = border[length - 1]!;
    if (text[at] === text[length]) length++;
    border.push(length);
  }
  return border;
}
