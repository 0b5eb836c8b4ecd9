// A model as plain f32 numbers, read a row at a time: what is written into other programs' formats. The base's own, as it is served,
// is here; with an adapter merged into it, in adapters/merged-model.ts.

import type { Architecture } from './architecture.js';
import type { Artifact } from './artifact-reader.js';
import type { StoredMatrix } from './stored-matrix.js';
import { tensorList } from './tensor-list.js';

export interface DenseTensor {
  /** As in the manifest. */
  readonly name: string;
  /** [rows, cols] of a matrix, [n] of a vector, which is read as n rows of one value. */
  readonly shape: readonly number[];
  /** Brings it into memory, as it is stored; whoever calls lets go of it before the next one. */
  open(): StoredMatrix;
}

export interface DenseModel {
  /** For people. */
  readonly name: string;
  readonly architecture: Architecture;
  /** All that tensorList(architecture) names, in its order. */
  readonly tensors: readonly DenseTensor[];
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/**
 * The converted base. `architecture` may have biases that the base lacks: they are zeros. A quantized matrix gives the values that its
 * codes stand for: scale * code + minimum in f64, rounded to f32 once.
 */
export function baseModel(artifact: Artifact, architecture: Architecture): DenseModel {
  const { manifest } = artifact;
  const tensors = tensorList(architecture).map(({ name, shape }) => ({
    name,
    shape,
    open(): StoredMatrix {
      if (shape.length === 2) return artifact.openMatrix(name);
      const isStored = manifest.vectors[name] !== undefined;
      return vectorRows(isStored ? artifact.readVector(name) : new Float32Array(shape[0]!));
    },
  }));
  const { name, bosTokenId, eosTokenIds } = manifest;
  return { name, architecture, tensors, bosTokenId, eosTokenIds };
}

/** A vector as rows of one value. */
export function vectorRows(values: Float32Array): StoredMatrix {
  return {
    rows: values.length,
    cols: 1,
    writeRow(row, out, at) {
      out[at] = values[row]!;
    },
  };
}

/** The same rows in another order: row n is the source's row order(n). */
export function reordered(source: StoredMatrix, order: (row: number) => number): StoredMatrix {
  return { ...source, writeRow: (row, out, at) => source.writeRow(order(row), out, at) };
}
