// LoRA in the bank: for each group of P projections A [K, P*R], the projections' A side by side, and for each projection B [R, N].

import type { Architecture, Projection } from '../model/architecture.js';
import { groupShape } from '../model/group-shape.js';
import { GROUP_NAMES, GROUPS, type GroupName } from '../model/projection-group.js';
import { type BankLayout, type BankMatrix, writeColumns } from './bank.js';
import type { LoraAdapter } from './types.js';

export function loraLayout(arch: Architecture): BankLayout<LoraAdapter> {
  const matrices = Array.from({ length: arch.numLayers }, (_, layer) =>
    GROUP_NAMES.map((group) => groupMatrices(arch, layer, group)),
  );
  return { widthOf: ({ maxRank }) => maxRank, matrices: matrices.flat(2) };
}

function groupMatrices(arch: Architecture, layer: number, group: GroupName): BankMatrix<LoraAdapter>[] {
  const { name, inputSize, outputSizes } = groupShape(arch, layer, group);
  const projections: readonly Projection[] = GROUPS[group];
  const a: BankMatrix<LoraAdapter> = {
    name: `lora.${name}.a`,
    shape: (rank) => [inputSize, projections.length * rank],
    write: (adapter, rank, slot) =>
      projections.forEach((projection, part) => {
        const delta = adapter.layers[layer]?.lora[projection];
        if (delta !== undefined)
          writeColumns(delta.a, delta.rank, slot, projections.length * rank, part * rank);
      }),
  };
  const b = projections.map((projection, part): BankMatrix<LoraAdapter> => ({
    name: `lora.${name}.b${part}`,
    shape: (rank) => [rank, outputSizes[part]!],
    write: (adapter, _, slot) => {
      const delta = adapter.layers[layer]?.lora[projection];
      if (delta !== undefined) slot.set(delta.b);
    },
  }));
  return [a, ...b];
}
