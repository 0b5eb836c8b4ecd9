// LoRA's dropout masks, made again from the seed wherever they are needed: the backward pass sees those of the forward pass.

import { type Architecture, PROJECTIONS, projectionShape } from '../../model/architecture.js';
import { randomBits } from '../random-numbers.js';
import type { BlockAdditions } from '../types.js';

const RESOLUTION = 2 ** 16;

export function hasDropout({ lora }: BlockAdditions): boolean {
  return Object.values(lora).some(({ dropout }) => dropout > 0);
}

/** `dropout.{projection}` u8 [numRows, in]: 1 is kept. The key makes them unique: the step's seed, the group of rows, the block. */
export function dropoutMasks(
  arch: Architecture,
  { lora }: BlockAdditions,
  numRows: number,
  key: readonly number[],
): ReadonlyMap<string, Uint8Array> {
  const masks = new Map<string, Uint8Array>();
  PROJECTIONS.forEach((projection, index) => {
    const dropout = lora[projection]?.dropout ?? 0;
    if (dropout === 0) return;
    const size = numRows * projectionShape(arch, projection)[1];
    masks.set(`dropout.${projection}`, keepMask(size, dropout, randomBits(...key, index)));
  });
  return masks;
}

/** Two values a draw: 16 bits decide each. */
function keepMask(size: number, dropout: number, next: () => number): Uint8Array {
  const threshold = Math.round(dropout * RESOLUTION);
  const mask = new Uint8Array(size);
  for (let i = 0; i < size; i += 2) {
    const bits = next();
    mask[i] = +((bits & 0xffff) >= threshold);
    mask[i + 1] = +(bits >>> 16 >= threshold);
  }
  return mask;
}
