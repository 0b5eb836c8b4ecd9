// Seeded order: the same seed and stream give the same numbers on every machine (splitmix32, after Steele, Lea and Flood 2014).

/** Uniform in [0, 1). `stream` tells apart what one seed decides, an epoch for example; both are whole numbers from 0. */
export function seededRandom(seed: number, stream: number): () => number {
  let state = mixed(mixed(seed >>> 0) ^ Math.floor(seed / 2 ** 32) ^ mixed(stream + 1));
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return (mixed(state) >>> 0) / 2 ** 32;
  };
}

/** Fisher and Yates; the items stay as they are. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

function mixed(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
  bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
  return bits ^ (bits >>> 15);
}
