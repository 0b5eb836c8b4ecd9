// Turns rows as a source stores them into rows as the artifact stores them: exact where the source is quantized, rounded where it is not.
// Which kind a tensor gets is decided here and nowhere else.

import { GatewayError } from '../errors.js';
import { dequantize, isInt4Source, isInt8Source, toInt4, toInt8 } from '../formats/ggml-blocks.js';
import type { Manifest } from './artifact.js';
import type { RawRows } from './checkpoint.js';
import { quantizeInt4, quantizeInt8, type QuantizedRows, widenInt4 } from './quantization.js';

export type MatrixKind = 'f32' | 'int4' | 'int8';

export type EncodedRows = QuantizedRows | { readonly kind: 'f32'; readonly values: Float32Array };

/** What a matrix becomes at most: projections follow `weights`, the embedding and the head are never below 8 bits. */
export function targetKind(name: string, weights: Manifest['weights']): MatrixKind {
  if (weights === 'f32') return 'f32';
  return weights === 'q8' || name === 'embed_tokens' || name === 'lm_head' ? 'int8' : 'int4';
}

/**
 * [rows, cols] of a matrix. Quantized sources keep their codes in any target but f32: 5-, 6- and 8-bit codes become int8 even where
 * int4 is asked for. Throws GatewayError invalid_file naming the tensor where a value is not finite.
 */
export function encodeRows(
  raw: RawRows,
  rows: number,
  cols: number,
  target: MatrixKind,
  place: TensorPlace,
): EncodedRows {
  if (target !== 'f32' && raw.kind === 'ggml') {
    const recoded = recode(raw, rows, cols, target);
    if (recoded !== null) {
      checkFinite(recoded.scales, cols / recoded.blockSize, place);
      if (recoded.minima !== null) checkFinite(recoded.minima.data, cols / recoded.minima.blockSize, place);
      return recoded;
    }
  }
  const values = decodeRows(raw, rows * cols, cols, place);
  if (target === 'f32') return { kind: 'f32', values };
  return target === 'int4' ? quantizeInt4(values, rows, cols) : quantizeInt8(values, rows, cols);
}

/** Where rows come from, for messages. */
export interface TensorPlace {
  readonly file: string;
  readonly tensor: string;
  readonly firstRow: number;
}

/** The values, checked to be finite. */
export function decodeRows(raw: RawRows, count: number, cols: number, place: TensorPlace): Float32Array {
  const values = raw.kind === 'f32' ? raw.values : dequantize(raw.type, raw.bytes, count);
  checkFinite(values, cols, place);
  return values;
}

/** Null where the source holds plain floats. */
function recode(
  { type, bytes }: RawRows & { readonly kind: 'ggml' },
  rows: number,
  cols: number,
  target: 'int4' | 'int8',
): QuantizedRows | null {
  if (isInt8Source(type)) return { kind: 'int8', ...toInt8(type, bytes, rows, cols) };
  if (!isInt4Source(type)) return null;
  const recoded = toInt4(type, bytes, rows, cols);
  return target === 'int4' ? { kind: 'int4', ...recoded } : widenInt4(recoded);
}

function checkFinite(values: Float32Array, perRow: number, place: TensorPlace): void {
  for (let i = 0; i < values.length; i++)
    if (values[i]! - values[i]! !== 0)
      throw new GatewayError(
        'invalid_file',
        `${place.file}: tensor \`${place.tensor}\` has the value ${values[i]} in row ${place.firstRow + Math.floor(i / perRow)}; a checkpoint's weights must be finite`,
        { param: place.file },
      );
}
