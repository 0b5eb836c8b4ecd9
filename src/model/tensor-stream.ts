// Writes the tensors of an exported file one after the other, a few rows at a time, so memory does not grow with the model.
// Where they go and what the header says is the business of export-safetensors.ts and export-gguf.ts.

import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { GatewayError } from '../errors.js';
import { encodeFloats, firstBeyond, type WeightType } from '../formats/float-encoding.js';
import type { DenseTensor } from './dense-model.js';

export interface PlacedTensor {
  readonly tensor: DenseTensor;
  readonly type: WeightType;
  /** Of its first byte in the file. */
  readonly offset: number;
}

export interface ExportProgress {
  /** Calls back with the number of values written since the last call. */
  readonly onValues?: (count: number) => void;
  /** Ends the export between two pieces. */
  readonly signal?: AbortSignal;
}

/** f32 values held at a time, beside the tensor as it is stored. */
const CHUNK_VALUES = 2 ** 20;

/** A new file of `size` bytes, synced; what no tensor covers is zero. Throws GatewayError invalid_value naming a value beyond its type. */
export async function writeTensorFile(
  path: string,
  header: Uint8Array,
  size: number,
  tensors: readonly PlacedTensor[],
  { onValues, signal }: ExportProgress,
): Promise<void> {
  const fd = openSync(path, 'wx');
  try {
    writeAll(fd, header, 0);
    let end = header.byteLength;
    for (const { tensor, type, offset } of tensors) {
      let at = offset;
      for (const values of chunks(tensor)) {
        signal?.throwIfAborted();
        checkHolds(tensor.name, type, values);
        const bytes = encodeFloats(type, values);
        writeAll(fd, bytes, at);
        at += bytes.byteLength;
        onValues?.(values.length);
        await setImmediate();
      }
      end = at;
    }
    if (end < size) writeAll(fd, new Uint8Array(size - end), end);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The values in whole rows; the arrays are the caller's only until the next. */
function* chunks(tensor: DenseTensor): Generator<Float32Array> {
  const matrix = tensor.open();
  const { rows, cols } = matrix;
  const step = Math.max(1, Math.floor(CHUNK_VALUES / cols));
  const buffer = new Float32Array(Math.min(step, rows) * cols);
  for (let start = 0; start < rows; start += step) {
    const count = Math.min(step, rows - start);
    for (let row = 0; row < count; row++) matrix.writeRow(start + row, buffer, row * cols);
    yield buffer.subarray(0, count * cols);
  }
}

function checkHolds(name: string, type: WeightType, values: Float32Array): void {
  const at = firstBeyond(type, values);
  if (at < 0) return;
  const advice = Number.isFinite(values[at])
    ? 'choose f32 or bf16'
    : 'the adapter is too strong to be merged';
  throw new GatewayError('invalid_value', `${name} has the value ${values[at]}, beyond ${type}; ${advice}`, {
    param: 'type',
  });
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.byteLength;)
    done += writeSync(fd, bytes, done, Math.min(bytes.byteLength - done, 2 ** 30), position + done);
}
