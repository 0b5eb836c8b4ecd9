// One native operator as a graph of its own: inputs in, its first output out.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GraphBuilder, NATIVE, type Attributes } from '../../src/graph/builder.js';
import type { DataType } from '../../src/graph/onnx.js';
import { Runtime } from '../../src/runtime/runtime.js';
import type { TensorData } from '../../src/runtime/tensor.js';

export interface OperatorInput {
  readonly name: string;
  readonly type: DataType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

export interface OperatorCall {
  readonly op: string;
  readonly attributes?: Attributes;
  /** null: an optional input left out. */
  readonly inputs: readonly (OperatorInput | null)[];
  readonly outputShape: readonly number[];
  /** Inputs that the operator writes: its further outputs, over the same memory. */
  readonly inPlace?: readonly string[];
}

export function floats(name: string, shape: readonly number[], data: Float32Array): OperatorInput {
  return { name, type: 'f32', shape, data };
}

/** Runs it on `threads` threads of a runtime with the library `kernels`. */
export async function runOperator(kernels: string, call: OperatorCall, threads = 2): Promise<Float32Array> {
  const { op, attributes = {}, inputs, outputShape, inPlace = [] } = call;
  const folder = mkdtempSync(join(tmpdir(), 'operator-'));
  const runtime = new Runtime(kernels);
  const given = inputs.filter((input) => input !== null);
  const graph = new GraphBuilder();
  for (const { name, type, shape } of given) graph.input(name, type, shape);
  graph.nodes.push({
    op,
    domain: NATIVE,
    name: 'node',
    inputs: inputs.map((input) => input?.name ?? ''),
    outputs: ['result', ...inPlace.map((name) => `${name}.after`)],
    attributes,
  });
  graph.output('result', 'f32', outputShape);
  for (const name of inPlace)
    graph.output(`${name}.after`, 'f32', given.find((each) => each.name === name)!.shape);
  const path = join(folder, 'operator.onnx');
  writeFileSync(path, graph.encode());
  const session = await runtime.session(path, { threads });
  const y = new Float32Array(outputShape.reduce((product, size) => product * size, 1));
  const output = runtime.tensor(y, outputShape);
  const tensors = new Map(given.map(({ name, data, shape }) => [name, runtime.tensor(data, shape)]));
  try {
    await session.run(tensors, [
      ['result', output],
      ...inPlace.map((name) => [`${name}.after`, tensors.get(name)!] as const),
    ]);
    return y;
  } finally {
    for (const tensor of [...tensors.values(), output]) tensor.dispose();
    session.dispose();
    rmSync(folder, { recursive: true });
  }
}
