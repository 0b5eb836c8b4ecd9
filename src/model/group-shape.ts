// Sizes of a projection group in a given model, shared by the graph, the bank and the affine inputs.

import { projectionShape, type Architecture } from './architecture.js';
import type { GroupShape } from './adapter-nodes.js';
import { GROUPS, type GroupName } from './projection-group.js';

export function groupShape(arch: Architecture, layer: number, group: GroupName): GroupShape {
  const shapes = GROUPS[group].map((projection) => projectionShape(arch, projection));
  return {
    name: `layers.${layer}.${group}`,
    inputSize: shapes[0]![1],
    outputSizes: shapes.map(([rows]) => rows),
  };
}
