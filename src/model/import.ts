// Converts a checkpoint into an artifact: one tensor after the other, a few rows at a time, so memory does not grow with the model.
// The decisions lie elsewhere: what a checkpoint is in checkpoint.ts, what a matrix becomes in matrix-encoding.ts.

import { setImmediate } from 'node:timers/promises';
import type { Blob, Manifest, MatrixEntry } from './artifact.js';
import { ArtifactWriter } from './artifact-writer.js';
import { type Checkpoint, type CheckpointTensor, openCheckpoint, type TokenizerFiles } from './checkpoint.js';
import { decodeRows, type EncodedRows, encodeRows, type MatrixKind, targetKind } from './matrix-encoding.js';
import type { QuantizedRows } from './quantization.js';

export interface ImportOptions {
  /** A folder with safetensors, or a .gguf file. */
  readonly sourcePath: string;
  /** Must not exist yet. */
  readonly outputFolder: string;
  readonly weights: Manifest['weights'];
  readonly name: string;
  /** For people: a Hub id, a file name. */
  readonly source: string;
  /** For GGUF files: makes tokenizer files from the metadata. */
  readonly tokenizerFiles?: TokenizerFiles;
  readonly onProgress?: (progress: ImportProgress) => void;
  /** f32 values held at a time; the result does not depend on it. */
  readonly maxChunkValues?: number;
  readonly now?: () => Date;
}

export interface ImportProgress {
  /** Weights converted so far, and in all. */
  readonly done: number;
  readonly total: number;
}

const DEFAULT_CHUNK_VALUES = 2 ** 22;

/** What a matrix is to become, and how much of it at a time; `file` is for messages. */
interface MatrixPlan {
  readonly target: MatrixKind;
  readonly file: string;
  readonly maxChunkValues: number;
}

/**
 * Writes the artifact's folder, whole or not at all, and returns its manifest.
 * Throws GatewayError not_found, unsupported_model, invalid_file; invalid_value where outputFolder exists.
 */
export async function importModel(options: ImportOptions): Promise<Manifest> {
  const checkpoint = openCheckpoint(options.sourcePath, options);
  try {
    const writer = new ArtifactWriter(options.outputFolder);
    try {
      const manifest = await convert(checkpoint, writer, options);
      await writer.finish(manifest, checkpoint.files);
      return manifest;
    } finally {
      writer.abort();
    }
  } finally {
    checkpoint.close();
  }
}

async function convert(
  checkpoint: Checkpoint,
  writer: ArtifactWriter,
  options: ImportOptions,
): Promise<Manifest> {
  const matrices: Record<string, MatrixEntry> = {};
  const vectors: Record<string, Blob> = {};
  const total = [...checkpoint.tensors.values()].reduce((sum, { shape }) => sum + countOf(shape), 0);
  const { file } = checkpoint;
  const { maxChunkValues = DEFAULT_CHUNK_VALUES } = options;
  let done = 0;
  for (const [name, tensor] of checkpoint.tensors) {
    const target = targetKind(name, options.weights);
    if (tensor.shape.length === 1) vectors[name] = writeVector(writer, tensor, file);
    else matrices[name] = writeMatrix(writer, tensor, { target, file, maxChunkValues });
    done += countOf(tensor.shape);
    options.onProgress?.({ done, total });
    await setImmediate();
  }
  return {
    formatVersion: 1,
    baseHash: checkpoint.hash(),
    name: options.name,
    source: options.source,
    weights: options.weights,
    architecture: checkpoint.architecture,
    matrices,
    vectors,
    eosTokenIds: checkpoint.eosTokenIds,
    bosTokenId: checkpoint.bosTokenId,
    addBos: checkpoint.addBos,
    createdAt: (options.now?.() ?? new Date()).toISOString(),
  };
}

function writeVector(writer: ArtifactWriter, tensor: CheckpointTensor, file: string): Blob {
  const count = tensor.shape[0]!;
  const place = { file, tensor: tensor.sourceName, firstRow: 0 };
  return writer.writeBlob([bytesOf(decodeRows(tensor.readRows(0, count), count, 1, place))]);
}

function writeMatrix(writer: ArtifactWriter, tensor: CheckpointTensor, plan: MatrixPlan): MatrixEntry {
  const [rows, cols] = tensor.shape as [number, number];
  const side = new SideValues(rows);
  const data = writer.writeBlob(codes(tensor, plan, side));
  const { scales, minima, first } = side;
  if (first === null) return { kind: 'f32', rows, cols, data };
  return {
    kind: first.kind,
    rows,
    cols,
    blockSize: first.blockSize,
    data,
    scales: writer.writeBlob([bytesOf(scales)]),
    minima:
      first.minima === null
        ? null
        : { blockSize: first.minima.blockSize, data: writer.writeBlob([bytesOf(minima)]) },
  };
}

/** The matrix's data piece by piece; what belongs beside it is gathered in `side`. */
function* codes(
  tensor: CheckpointTensor,
  { target, file, maxChunkValues }: MatrixPlan,
  side: SideValues,
): Generator<Uint8Array> {
  const [rows, cols] = tensor.shape as [number, number];
  const step = Math.max(1, Math.floor(maxChunkValues / cols));
  for (let start = 0; start < rows; start += step) {
    const end = Math.min(start + step, rows);
    const place = { file, tensor: tensor.sourceName, firstRow: start };
    const encoded: EncodedRows = encodeRows(tensor.readRows(start, end), end - start, cols, target, place);
    if (encoded.kind !== 'f32') side.add(encoded, start, end - start);
    yield encoded.kind === 'f32' ? bytesOf(encoded.values) : encoded.data;
  }
}

/** Scales and minima of a whole matrix, gathered from its pieces. */
class SideValues {
  readonly #rows: number;
  /** The first piece: all have its kind and block size. Null where the matrix is f32. */
  first: QuantizedRows | null = null;
  scales = new Float32Array(0);
  minima = new Float32Array(0);

  constructor(rows: number) {
    this.#rows = rows;
  }

  add(piece: QuantizedRows, firstRow: number, numRows: number): void {
    const scalesPerRow = piece.scales.length / numRows;
    const minimaPerRow = (piece.minima?.data.length ?? 0) / numRows;
    if (this.first === null) {
      this.first = piece;
      this.scales = new Float32Array(this.#rows * scalesPerRow);
      this.minima = new Float32Array(this.#rows * minimaPerRow);
    }
    this.scales.set(piece.scales, firstRow * scalesPerRow);
    if (piece.minima !== null) this.minima.set(piece.minima.data, firstRow * minimaPerRow);
  }
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
