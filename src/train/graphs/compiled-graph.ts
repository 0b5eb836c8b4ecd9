// A graph with fixed shapes that is ready to run: values are given and come back by name, their shapes are the graph's.

import { assert } from '../../errors.js';
import type { GraphBuilder } from '../../graph/builder.js';
import { product } from '../autodiff/shapes.js';
import { ArrayPool } from './array-pool.js';
import type { Backend, InputData, InputValue } from '../types.js';

/** Where a run's inputs are looked up, first to last. */
export type Values = readonly ReadonlyMap<string, InputData>[];

export interface CompiledGraph {
  /** Every output by name, in arrays of the pool: the caller's, who may give them back. */
  run(values: Values): Promise<ReadonlyMap<string, Float32Array>>;
  dispose(): void;
}

export async function compileGraph(
  backend: Backend,
  graph: GraphBuilder,
  pool = new ArrayPool(),
): Promise<CompiledGraph> {
  const executor = await backend.compile(graph);
  const inputShapes = graph.inputs.map(({ name, shape }) => [name, shape as readonly number[]] as const);
  const outputShapes = new Map(graph.outputs.map(({ name, shape }) => [name, shape as readonly number[]]));
  return {
    run(values) {
      const inputs = inputShapes.map(([name, shape]): [string, InputValue] => {
        const data = values.find((map) => map.has(name))?.get(name);
        assert(data !== undefined, `the graph's input ${name} has no value`);
        return [name, { data, shape }];
      });
      const into = [...outputShapes].map(([name, shape]) => [name, pool.take(product(shape))] as const);
      return executor.run(new Map(inputs), outputShapes, new Map(into));
    },
    dispose: () => executor.dispose(),
  };
}
