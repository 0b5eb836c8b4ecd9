// How far merged weights are from the unmerged path: next-token distributions compared over the probe's positions.
//
// With 8-bit activations the unmerged path differs from itself, too, where a prompt is cut elsewhere: a sum rounded otherwise moves an
// activation to the next code. So it is run twice, and the most likely tokens are compared where its own choice is clear of that noise.

export interface Drift {
  /** Mean of KL(unmerged || merged), in nats. */
  readonly meanKl: number;
  /** Share of the decided positions with the same most likely token. */
  readonly top1: number;
  /** Share of the positions where the unmerged path's first token leads the second by more than its noise. */
  readonly decided: number;
  /** Mean KL of the unmerged path from itself. */
  readonly selfKl: number;
}

export interface DriftBounds {
  readonly maxMeanKl: number;
  readonly minTop1: number;
}

/** A form whose figures are no numbers is not within any bound. */
export function isWithin({ meanKl, top1 }: Drift, { maxMeanKl, minTop1 }: DriftBounds): boolean {
  return meanKl <= maxMeanKl && top1 >= minTop1;
}

/** A choice is clear where its lead exceeds this many root mean squares of the noise on a logit. */
const CLEAR_LEAD = 3;

export class DriftMeter {
  readonly #vocabSize: number;
  readonly #positions: { readonly lead: number; readonly isSame: boolean }[] = [];
  #sumKl = 0;
  #sumSelfKl = 0;
  #sumNoise = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  /** Logits [positions, V] of the same positions: the unmerged path, the same once more in another way, and the merged one. */
  add(unmerged: Float32Array, again: Float32Array, merged: Float32Array): void {
    const size = this.#vocabSize;
    for (let from = 0; from < unmerged.length; from += size) {
      const [p, self, q] = [unmerged, again, merged].map((logits) => logits.subarray(from, from + size));
      this.#sumKl += divergence(p!, q!);
      this.#sumSelfKl += divergence(p!, self!);
      this.#sumNoise += meanSquare(p!, self!);
      const [first, second] = firstTwo(p!);
      this.#positions.push({ lead: p![first]! - p![second]!, isSame: firstTwo(q!)[0] === first });
    }
  }

  result(): Drift {
    const count = this.#positions.length;
    const least = CLEAR_LEAD * Math.sqrt(this.#sumNoise / count);
    const decided = this.#positions.filter(({ lead }) => lead > least);
    return {
      meanKl: Math.max(0, this.#sumKl / count),
      top1: decided.filter(({ isSame }) => isSame).length / decided.length,
      decided: decided.length / count,
      selfKl: Math.max(0, this.#sumSelfKl / count),
    };
  }
}

function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logSum(p), logSum(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const own = p[i]! - logP;
    sum += Math.exp(own) * (own - (q[i]! - logQ));
  }
  return sum;
}

function logSum(logits: Float32Array): number {
  const most = logits[firstTwo(logits)[0]]!;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - most);
  return most + Math.log(sum);
}

function meanSquare(p: Float32Array, q: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += (p[i]! - q[i]!) ** 2;
  return sum / p.length;
}

/** Indices of the largest value and of the next. */
function firstTwo(values: Float32Array): readonly [number, number] {
  let [first, second] = values[1]! > values[0]! ? [1, 0] : [0, 1];
  for (let i = 2; i < values.length; i++)
    if (values[i]! > values[first]!) [first, second] = [i, first];
    else if (values[i]! > values[second]!) second = i;
  return [first, second];
}
