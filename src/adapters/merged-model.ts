// The base with an adapter merged into it, as plain numbers read a row at a time.

import { PROJECTIONS, projectionPath, type Architecture, type Projection } from '../model/architecture.js';
import type { Artifact } from '../model/artifact-reader.js';
import { baseModel, type DenseModel, type DenseTensor, vectorRows } from '../model/dense-model.js';
import type { StoredMatrix } from '../model/stored-matrix.js';
import { mergedBias, projectionChange, rowMerger, type ProjectionChange } from './merge-weights.js';
import type { LoraAdapter } from './types.js';

/** The projections that the adapter gives a bias, in any block. */
export function addedBiases(adapter: LoraAdapter): ReadonlySet<Projection> {
  return new Set(
    adapter.layers.flatMap(({ affine }) =>
      PROJECTIONS.filter((projection) => (affine[projection]?.bias ?? null) !== null),
    ),
  );
}

/** `architecture` is the base's, with every bias that the adapter adds (withBiases). */
export function mergedModel(
  artifact: Artifact,
  adapter: LoraAdapter,
  architecture: Architecture,
): DenseModel {
  const base = baseModel(artifact, architecture);
  const changes = changesByTensor(adapter);
  const tensors = base.tensors.map((tensor): DenseTensor => {
    const change = changes.get(tensor.name.replace(/\.bias$/, ''));
    if (change === undefined) return tensor;
    if (tensor.shape.length === 2) return { ...tensor, open: () => mergedMatrix(tensor.open(), change) };
    return { ...tensor, open: () => withBias(tensor.open(), change) };
  });
  return { ...base, tensors };
}

function changesByTensor(adapter: LoraAdapter): ReadonlyMap<string, ProjectionChange> {
  const changes = new Map<string, ProjectionChange>();
  for (const [layer, delta] of adapter.layers.entries())
    for (const projection of PROJECTIONS) {
      const change = projectionChange(delta, projection);
      if (change !== null) changes.set(`layers.${layer}.${projectionPath(projection)}`, change);
    }
  return changes;
}

function mergedMatrix(base: StoredMatrix, change: ProjectionChange): StoredMatrix {
  const merge = rowMerger(change, base.cols);
  return {
    ...base,
    writeRow(row, out, at) {
      base.writeRow(row, out, at);
      merge(row, out, at);
    },
  };
}

function withBias(base: StoredMatrix, change: ProjectionChange): StoredMatrix {
  const own = new Float32Array(base.rows);
  for (let row = 0; row < base.rows; row++) base.writeRow(row, own, row);
  return vectorRows(mergedBias(own, change)!);
}
