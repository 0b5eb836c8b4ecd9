// Tokens by weight, heaviest first, equal weights by token. With flat logits most of a vocabulary is to be ordered for each row and step:
// a radix sort by the weights' bits takes a fraction of a sort that compares.

/** Below it, comparing is faster. */
const MIN_RADIX_LENGTH = 1024;
const DIGIT_BITS = 11;
const NUM_DIGITS = 1 << DIGIT_BITS;
const SHIFTS = [0, DIGIT_BITS, 2 * DIGIT_BITS];
/** Of a 64-bit number in memory. */
const LOWER = 0;
const UPPER = 1;

/** `tokens`, ascending, in their order; `weights` are those of all tokens, none negative, so that they compare as their bits do. */
export function orderByWeight(tokens: Int32Array, weights: Float64Array): Int32Array {
  const byWeight = (a: number, b: number): number => weights[b]! - weights[a]! || a - b;
  if (tokens.length < MIN_RADIX_LENGTH) return tokens.toSorted(byWeight);
  // [V, 2]
  const words = new Uint32Array(weights.buffer, weights.byteOffset, 2 * weights.length);
  const order = sortByWord(tokens, words, UPPER);
  for (let start = 0, end; start < order.length; start = end) {
    end = endOfRun(order, words, start);
    if (end === start + 1) continue;
    const run = order.subarray(start, end);
    if (run.length < MIN_RADIX_LENGTH) run.sort(byWeight);
    else run.set(sortByWord(run, words, LOWER));
  }
  return order;
}

/** [start, end) has one upper word. */
function endOfRun(order: Int32Array, words: Uint32Array, start: number): number {
  const word = words[2 * order[start]! + UPPER];
  let end = start + 1;
  while (end < order.length && words[2 * order[end]! + UPPER] === word) end++;
  return end;
}

/** By one half of the bits, largest first; equal ones stay in their order. */
function sortByWord(tokens: Int32Array, words: Uint32Array, half: number): Int32Array {
  const { length } = tokens;
  const keys = new Uint32Array(length);
  for (let i = 0; i < length; i++) keys[i] = ~words[2 * tokens[i]! + half]!;
  let from = { tokens, keys };
  let to = { tokens: new Int32Array(length), keys: new Uint32Array(length) };
  // The input stays as it is: from the second pass on, two others take turns.
  let spare = { tokens: new Int32Array(length), keys: new Uint32Array(length) };
  for (const shift of SHIFTS) {
    scatter(from, to, shift);
    [from, to, spare] = [to, spare, to];
  }
  return from.tokens;
}

interface Keyed {
  readonly tokens: Int32Array;
  readonly keys: Uint32Array;
}

/** One pass: `to` is `from` by the digit at `shift`, smallest first. */
function scatter(from: Keyed, to: Keyed, shift: number): void {
  const places = placesOf(from.keys, shift);
  for (let i = 0; i < from.keys.length; i++) {
    const key = from.keys[i]!;
    const place = places[(key >>> shift) & (NUM_DIGITS - 1)]!++;
    to.tokens[place] = from.tokens[i]!;
    to.keys[place] = key;
  }
}

/** Where the first key with each digit goes. */
function placesOf(keys: Uint32Array, shift: number): Int32Array {
  const places = new Int32Array(NUM_DIGITS);
  for (let i = 0; i < keys.length; i++) places[(keys[i]! >>> shift) & (NUM_DIGITS - 1)]!++;
  let place = 0;
  for (let digit = 0; digit < NUM_DIGITS; digit++) {
    const count = places[digit]!;
    places[digit] = place;
    place += count;
  }
  return places;
}
