// Guesses how a text goes on: what followed when its last few tokens stood there before (prompt lookup decoding: A. Saxena, 2023; the
// drafts of speculative decoding, Leviathan et al., ICML 2023). The model then checks a whole draft in one run.

/** Longest first: more tokens alike are a better guess. */
const LENGTHS = [3, 2] as const;

/** Up to `count` tokens that followed the latest earlier place where the last 3 (else 2) tokens of `tokens` stood; [] where none did. */
export function draftFrom(tokens: readonly number[], count: number): readonly number[] {
  for (const length of LENGTHS) {
    const tail = tokens.length - length;
    for (let start = tail - 1; start >= 0; start--) {
      let same = 0;
      while (same < length && tokens[start + same] === tokens[tail + same]) same++;
      if (same === length) return tokens.slice(start + length, start + length + count);
    }
  }
  return [];
}

/** Checking 2, 4 or 8 tokens in a run is what the products are fastest at. */
const SIZES = [1, 3, 7] as const;
/** Runs without a draft after one of the smallest size that was wrong. */
const PAUSE = 4;

/** How many tokens are worth guessing, from how the last guesses of this sequence turned out. */
export class DraftSize {
  #step = 1;
  #pause = 0;

  /** 0: none in this run. */
  next(): number {
    if (this.#pause === 0) return SIZES[this.#step]!;
    this.#pause--;
    return 0;
  }

  /** Of the last draft `accepted` tokens of `drafted` were right. */
  note(accepted: number, drafted: number): void {
    if (accepted === drafted) this.#step = Math.min(this.#step + 1, SIZES.length - 1);
    else if (this.#step === 0) this.#pause = accepted === 0 ? PAUSE : 0;
    else if (accepted < SIZES[this.#step - 1]!) this.#step--;
  }
}
