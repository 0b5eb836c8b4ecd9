// The second level of NF4's double quantization (QLoRA, arXiv 2305.14314, section 3): the largest magnitudes of the blocks, less
// their mean, as 8-bit codes of the dynamic map in blocks of 256. Bit-equal to bitsandbytes 0.50.2 on the CPU.

/** Magnitudes that share one scale. */
const BLOCK_SIZE = 256;
/** The dynamic map's decades: 1e-6 to 1, each cut into twice as many values as the one below (Dettmers, arXiv 1511.04561). */
const DECADES = 7;
/** bitsandbytes' CPU kernel first rounds the scaled value to this many steps of [-1, 1] and looks the result up. */
const GRID_STEPS = 65535;

export interface QuantizedAbsmax {
  /** [blocks]: indices into the dynamic map. */
  readonly absmaxCodes: Uint8Array;
  /** [ceil(blocks / 256)]: largest distance from the offset in each block. */
  readonly absmax2: Float32Array;
  /** The mean, an f32. */
  readonly offset: number;
}

/** Each magnitude becomes `map[code] * absmax2 + offset`, `map[code]` being nearest (but for the grid's rounding, 1.5e-5 of absmax2). */
export function quantizeAbsmax(absmax: Float32Array): QuantizedAbsmax {
  const offset = Math.fround(absmax.reduce((sum, value) => sum + value, 0) / Math.max(1, absmax.length));
  const map = dynamicMap();
  const midpoints = map.subarray(1).map((value, i) => (value + map[i]!) / 2);
  const absmaxCodes = new Uint8Array(absmax.length);
  const absmax2 = new Float32Array(Math.ceil(absmax.length / BLOCK_SIZE));
  for (let block = 0; block < absmax2.length; block++) {
    const start = block * BLOCK_SIZE;
    const centred = absmax.subarray(start, start + BLOCK_SIZE).map((value) => value - offset);
    const largest = centred.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const inverse = Math.fround(1 / largest);
    absmax2[block] = largest;
    centred.forEach((value, i) => {
      absmaxCodes[start + i] = countBelow(midpoints, onGrid(Math.fround(value * inverse)));
    });
  }
  return { absmaxCodes, absmax2, offset };
}

/** The magnitudes as f32, [blocks]: what the 4-bit codes are multiplied with. */
export function expandAbsmax({ absmaxCodes, absmax2, offset }: QuantizedAbsmax): Float32Array {
  const map = dynamicMap();
  const absmax = new Float32Array(absmaxCodes.length);
  for (let i = 0; i < absmax.length; i++)
    absmax[i] = Math.fround(map[absmaxCodes[i]!]! * absmax2[Math.floor(i / BLOCK_SIZE)]!) + offset;
  return absmax;
}

/** The signed 8-bit dynamic map: 256 values in [-1, 1], ascending, with PyTorch's f32 rounding (linspace(0.1, 1), then means). */
function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let decade = 0; decade < DECADES; decade++) {
    const parts = 2 ** decade;
    const first = Math.fround(0.1);
    const step = Math.fround((1 - first) / parts);
    const bound = (i: number): number =>
      Math.fround(i < Math.floor((parts + 1) / 2) ? first + step * i : 1 - step * (parts - i));
    const scale = Math.fround(10 ** (decade + 1 - DECADES));
    for (let i = 0; i < parts; i++) {
      const mean = Math.fround(Math.fround(bound(i) + bound(i + 1)) / 2);
      values.push(scale * mean, -scale * mean);
    }
  }
  return Float32Array.from(values).toSorted();
}

function onGrid(x: number): number {
  const step = Math.floor((Math.fround(x + 1) / 2) * GRID_STEPS + 0.5);
  return Math.fround(-1 + Math.fround((2 * step) / GRID_STEPS));
}

/** How many of the ascending bounds lie below the value. */
function countBelow(bounds: Float32Array, value: number): number {
  let [start, end] = [0, bounds.length];
  while (start < end) {
    const middle = (start + end) >> 1;
    if (value > bounds[middle]!) start = middle + 1;
    else end = middle;
  }
  return start;
}
