// Seeded random numbers (sfc32, C. Doty-Humphrey). Equal keys give equal streams, different ones independent streams.

/** 32 random bits a call. The key is a seed and what the numbers are for, for example a block's and a projection's index. */
export function randomBits(...key: readonly number[]): () => number {
  let [a, b, c, counter] = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 1];
  const next = (): number => {
    const t = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (const part of key) {
    a = ((a ^ part) + 0x6a09e667) | 0;
    b ^= Math.floor(part / 2 ** 32);
    for (let i = 0; i < 12; i++) next();
  }
  return next;
}

/** `size` numbers of mean 0 (Box and Muller's method). */
export function normal(size: number, deviation: number, ...key: readonly number[]): Float32Array {
  const next = randomBits(...key);
  return Float32Array.from({ length: size }, () => {
    const radius = Math.sqrt(-2 * Math.log((next() + 1) / 2 ** 32));
    return deviation * radius * Math.cos((2 * Math.PI * next()) / 2 ** 32);
  });
}

/** `size` numbers from [-bound, bound). */
export function uniform(size: number, bound: number, ...key: readonly number[]): Float32Array {
  const next = randomBits(...key);
  return Float32Array.from({ length: size }, () => (next() / 2 ** 31 - 1) * bound);
}
