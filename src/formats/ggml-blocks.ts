// What GGML's tensors hold: their values (dequantize, the reference), and the same values in the codes that a converted base
// stores (toInt4, toInt8; see MatrixEntry in model/artifact.ts). The re-codings are exact: codes are moved, never rounded.
//   Q4_0          int4, no minima      Q5_0, Q8_0   int8, no minima     Q6_K  int8 in blocks of 16, no minima
//   Q4_1, Q4_K    int4 with minima     Q5_1, Q5_K   int8 with minima

import { assert } from '../errors.js';
import { bfloat16ToFloat32, float16ToFloat32 } from './float16.js';
import { type BlockLayout, LAYOUTS, type QuantizedGgmlType, type UnpackedBlock } from './ggml-layouts.js';
import { SUPPORTED_TYPES, type SupportedGgmlType } from './ggml-types.js';
import { valuesToFloat32 } from './safetensors-dtype.js';

export type Int4SourceType = 'Q4_0' | 'Q4_1' | 'Q4_K';
export type Int8SourceType = 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q5_K' | 'Q6_K';

/** W = scale * (code - zero) + minimum, with zero 8 (int4) or 128 (int8). */
export interface RecodedMatrix {
  readonly blockSize: 16 | 32;
  /** int4: [rows, blocks, blockSize / 2], the even column in the low nibble; int8: [rows, blocks, blockSize]. */
  readonly data: Uint8Array;
  /** [rows, blocks]. */
  readonly scales: Float32Array;
  /** [rows, blocks], or null where all are zero by type. */
  readonly minima: { readonly blockSize: 32; readonly data: Float32Array } | null;
}

export function isInt4Source(type: SupportedGgmlType): type is Int4SourceType {
  return type === 'Q4_0' || type === 'Q4_1' || type === 'Q4_K';
}

export function isInt8Source(type: SupportedGgmlType): type is Int8SourceType {
  return type in LAYOUTS && !isInt4Source(type);
}

/** `count` values of a tensor's bytes, as a new array. */
export function dequantize(type: SupportedGgmlType, bytes: Uint8Array, count: number): Float32Array {
  const { blockSize, blockBytes } = SUPPORTED_TYPES[type];
  assert(
    count % blockSize === 0 && bytes.length === (count / blockSize) * blockBytes,
    `${bytes.length} bytes of ${type} are not ${count} values`,
  );
  if (type === 'F16') return float16ToFloat32(bytes);
  if (type === 'BF16') return bfloat16ToFloat32(bytes);
  if (type === 'F32') return valuesToFloat32('F32', bytes)!;
  const { subBlock, center, symmetric } = LAYOUTS[type];
  const out = new Float32Array(count);
  forEachBlock(type, bytes, ({ codes, scales, offsets }, block) => {
    const to = block * blockSize;
    for (let k = 0; k < blockSize; k++) {
      const s = (k / subBlock) | 0;
      out[to + k] = symmetric ? scales[s]! * (codes[k]! - center) : scales[s]! * codes[k]! + offsets[s]!;
    }
  });
  return out;
}

/** A [rows, cols] matrix's bytes as int4 codes. cols is a multiple of the type's block. */
export function toInt4(
  type: Int4SourceType,
  bytes: Uint8Array,
  rows: number,
  cols: number,
): RecodedMatrix & { readonly blockSize: 32 } {
  const blockSize = SUPPORTED_TYPES[type].blockSize;
  const data = new Uint8Array((rows * cols) / 2);
  const parts = recode(type, bytes, rows, cols, (codes, block) => {
    const to = (block * blockSize) / 2;
    for (let k = 0; k < blockSize; k += 2) data[to + k / 2] = codes[k]! | (codes[k + 1]! << 4);
  });
  return { blockSize: 32, data, ...parts };
}

/** A [rows, cols] matrix's bytes as int8 codes, in blocks of 16 for Q6_K and of 32 otherwise. cols is a multiple of the type's block. */
export function toInt8(type: Int8SourceType, bytes: Uint8Array, rows: number, cols: number): RecodedMatrix {
  const { blockSize } = SUPPORTED_TYPES[type];
  const { subBlock, center } = LAYOUTS[type];
  const shift = 128 - center;
  const data = new Uint8Array(rows * cols);
  const parts = recode(type, bytes, rows, cols, (codes, block) => {
    const to = block * blockSize;
    for (let k = 0; k < blockSize; k++) data[to + k] = codes[k]! + shift;
  });
  return { blockSize: subBlock, data, ...parts };
}

/** Scales and minima of all blocks; the codes of each go to `store`. */
function recode(
  type: QuantizedGgmlType,
  bytes: Uint8Array,
  rows: number,
  cols: number,
  store: (codes: Uint8Array, block: number) => void,
): Pick<RecodedMatrix, 'scales' | 'minima'> {
  const { blockSize, blockBytes } = SUPPORTED_TYPES[type];
  const count = rows * cols;
  assert(
    cols % blockSize === 0 && bytes.length === (count / blockSize) * blockBytes,
    `${bytes.length} bytes of ${type} are not [${rows}, ${cols}]`,
  );
  const layout = LAYOUTS[type];
  const perBlock = blockSize / layout.subBlock;
  const scales = new Float32Array(count / layout.subBlock);
  const minima = layout.symmetric ? null : new Float32Array(scales.length);
  forEachBlock(type, bytes, (unpacked, block) => {
    store(unpacked.codes, block);
    for (let s = 0; s < perBlock; s++) scales[block * perBlock + s] = unpacked.scales[s]!;
    if (minima !== null) storeMinima(layout, unpacked, minima, block * perBlock);
  });
  return { scales, minima: minima === null ? null : { blockSize: 32, data: minima } };
}

/** scale * code + offset = scale * (code - center) + (offset + center * scale). */
function storeMinima(layout: BlockLayout, block: UnpackedBlock, minima: Float32Array, to: number): void {
  const { scales, offsets } = block;
  for (let s = 0; s < scales.length; s++) minima[to + s] = offsets[s]! + layout.center * scales[s]!;
}

/** Calls with each block in turn, unpacked into the same arrays. */
function forEachBlock(
  type: QuantizedGgmlType,
  bytes: Uint8Array,
  visit: (unpacked: UnpackedBlock, block: number) => void,
): void {
  const { blockSize, blockBytes } = SUPPORTED_TYPES[type];
  const layout = LAYOUTS[type];
  const unpacked: UnpackedBlock = {
    codes: new Uint8Array(blockSize),
    scales: new Float64Array(blockSize / layout.subBlock),
    offsets: new Float64Array(blockSize / layout.subBlock),
  };
  for (let block = 0; block < bytes.length / blockBytes; block++) {
    layout.unpack(bytes, block * blockBytes, unpacked);
    visit(unpacked, block);
  }
}
