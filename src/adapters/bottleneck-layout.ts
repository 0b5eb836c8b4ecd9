// Bottlenecks in the bank: for each block and place the two matrices and their biases. Units beyond an adapter's own are zero: silu(0) is 0.

import type { Architecture } from '../model/architecture.js';
import { BOTTLENECK_PLACES, type BottleneckPlace } from '../model/bottleneck-nodes.js';
import { type BankLayout, type BankMatrix, writeColumns } from './bank.js';
import type { BottleneckAdapter, BottleneckDelta } from './types.js';

export function bottleneckLayout({ numLayers, hiddenSize }: Architecture): BankLayout<BottleneckAdapter> {
  const matrices = Array.from({ length: numLayers }, (_, layer) =>
    BOTTLENECK_PLACES.map((place) => placeMatrices(layer, place, hiddenSize)),
  );
  return { widthOf: ({ size }) => size, matrices: matrices.flat(2) };
}

function placeMatrices(
  layer: number,
  place: BottleneckPlace,
  hiddenSize: number,
): BankMatrix<BottleneckAdapter>[] {
  const matrix = (
    suffix: string,
    shape: (width: number) => readonly [number, number],
    write: (delta: BottleneckDelta, size: number, width: number, slot: Float32Array) => void,
  ): BankMatrix<BottleneckAdapter> => ({
    name: `bottleneck.layers.${layer}.${place}.${suffix}`,
    shape,
    write: (adapter, width, slot) => write(adapter.layers[layer]![place], adapter.size, width, slot),
  });
  return [
    matrix(
      'down',
      (width) => [hiddenSize, width],
      ({ down }, size, width, slot) => writeColumns(down, size, slot, width),
    ),
    matrix(
      'down_bias',
      (width) => [1, width],
      ({ downBias }, _, __, slot) => slot.set(downBias),
    ),
    matrix(
      'up',
      (width) => [width, hiddenSize],
      ({ up }, _, __, slot) => slot.set(up),
    ),
    matrix(
      'up_bias',
      () => [1, hiddenSize],
      ({ upBias }, _, __, slot) => slot.set(upBias),
    ),
  ];
}
