// Small networks whose output is what the model sees (virtual tokens, prefixes): drawn as graphs, computed and differentiated by the backend.

import { GraphBuilder } from '../../graph/builder.js';
import { differentiate } from '../autodiff/differentiate.js';
import { Expressions } from '../autodiff/expressions.js';
import { type CompiledGraph, compileGraph } from '../graphs/compiled-graph.js';
import { subgraph } from '../graphs/subgraph.js';
import { addInto } from '../parameters.js';
import type { Backend, Parameter } from '../types.js';

/** Draws the output [rows, out] over graph inputs that have the parameters' names. */
export type DrawEncoder = (e: Expressions) => string;

export interface Encoder {
  readonly parameters: readonly Parameter[];
  /** The output for the parameters' current values, row-major, as a new array. */
  encode(): Promise<Float32Array>;
  /** Adds to the parameters' gradients, for their current values. `gradient` has the output's shape. */
  backward(gradient: Float32Array): Promise<void>;
}

/** The parameter is the output itself. */
export function tableEncoder(table: Parameter): Encoder {
  return {
    parameters: [table],
    encode: () => Promise.resolve(table.values.slice()),
    backward(gradient) {
      addInto(table.gradient, gradient);
      return Promise.resolve();
    },
  };
}

/** The executors stay the backend's: they go with it. */
export async function createEncoder(
  backend: Backend,
  parameters: readonly Parameter[],
  draw: DrawEncoder,
): Promise<Encoder> {
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'encoder');
  for (const { name, shape } of parameters) graph.input(name, 'f32', shape);
  const output = draw(e);
  const shape = e.shape(output);
  const forward = await compileGraph(backend, subgraph(graph, new Map([[output, shape]])));
  const names = parameters.map(({ name }) => name);
  const gradients = differentiate(graph, new Map([[output, graph.input(GRADIENT, 'f32', shape)]]), names);
  const gradientShapes = new Map(gradients.map((name, i) => [name, parameters[i]!.shape]));
  const backward = await compileGraph(backend, subgraph(graph, gradientShapes));
  const values = new Map(parameters.map((parameter) => [parameter.name, parameter.values]));
  return {
    parameters,
    encode: async () => outputOf(forward, values, output),
    async backward(gradient) {
      const results = await backward.run([values, new Map([[GRADIENT, gradient]])]);
      parameters.forEach((parameter, i) => addInto(parameter.gradient, results.get(gradients[i]!)!));
    },
  };
}

const GRADIENT = 'output_gradient';

async function outputOf(
  graph: CompiledGraph,
  values: ReadonlyMap<string, Float32Array>,
  output: string,
): Promise<Float32Array> {
  return (await graph.run([values])).get(output)!;
}
