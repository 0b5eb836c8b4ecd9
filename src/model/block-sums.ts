// The runtime's packed 4-bit weights hold, beside codes and scales, the contribution of the zero point for each block:
// -zeroPoint * scale, as f32, multiplied at run time with the sums of x over the blocks. A block with a minimum,
// W = scale * (q - 8) + minimum, needs just another number there: minimum - 8 * scale. Writing it makes Q4_1 and Q4_K exact at no cost.
//
// The layout is the runtime's own (MLAS, SQNBitGemm with block sums: codes [N, blocks, 16], then, 64-byte aligned, panels of 16
// rows [N/16, blocks, 16]), so it is taken over only where every number is found to be what the layout says; else minima stay apart.

import type { PackedMatrix } from './projection-group.js';

const ALIGNMENT = 64;
const PANEL_ROWS = 16;
const ZERO_POINT = 8;

/**
 * Writes the minima into a packed buffer; false, and the buffer unchanged, where its layout is not the expected one.
 * `scales` is [rows, blocks], `minima` [blocks, rows].
 */
export function foldMinima(
  packed: Uint8Array,
  pack: PackedMatrix,
  scales: Float32Array,
  minima: Float32Array,
): boolean {
  const { rows, cols, blockSize } = pack;
  const blocks = Math.ceil(cols / blockSize);
  const codeBytes = (rows * blocks * blockSize) / 2;
  const start = Math.ceil(codeBytes / ALIGNMENT) * ALIGNMENT;
  const panels = Math.ceil(rows / PANEL_ROWS);
  if (start + panels * blocks * PANEL_ROWS * 4 > packed.length) return false;
  const sums = new Float32Array(packed.buffer, packed.byteOffset + start, panels * blocks * PANEL_ROWS);
  const place = (row: number, block: number): number =>
    (Math.floor(row / PANEL_ROWS) * blocks + block) * PANEL_ROWS + (row % PANEL_ROWS);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++)
      if (sums[place(row, block)] !== Math.fround(-ZERO_POINT * scales[row * blocks + block]!)) return false;
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++)
      sums[place(row, block)] = minima[block * rows + row]! - ZERO_POINT * scales[row * blocks + block]!;
  return true;
}
