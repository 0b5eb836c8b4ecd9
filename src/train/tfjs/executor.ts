// A planned graph that runs: tensors of a run are disposed with it, constants with the executor. Nodes compute where the library does:
// on the CPU that is the calling thread.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import type { Graph } from '../../graph/onnx.js';
import { product } from '../autodiff/shapes.js';
import type { GraphExecutor, InputValue } from '../types.js';
import type { Tfjs } from './operation.js';
import { evaluate, type Plan, planGraph } from './plan.js';
import { toTensor } from './tensors.js';

export function createExecutor(tf: Tfjs, graph: Graph): GraphExecutor {
  const plan = planGraph(graph);
  const constants = new Map(
    [...plan.constants].map(([name, { data, shape }]) => [name, tf.keep(toTensor(tf, name, data, shape))]),
  );
  return {
    async run(inputs, outputs, into = new Map()) {
      const made = tf.tidy(() => computeOutputs(tf, plan, constants, inputs, [...outputs.keys()]));
      try {
        const results = [...outputs].map(async ([name, shape], i): Promise<[string, Float32Array]> => [
          name,
          await readTensor(name, made[i]!, shape, into.get(name)),
        ]);
        return new Map(await Promise.all(results));
      } finally {
        tf.dispose(made);
      }
    },
    dispose() {
      tf.dispose([...constants.values()]);
      constants.clear();
    },
  };
}

function computeOutputs(
  tf: Tfjs,
  plan: Plan,
  constants: ReadonlyMap<string, Tensor>,
  inputs: ReadonlyMap<string, InputValue>,
  names: readonly string[],
): Tensor[] {
  const values = new Map(constants);
  for (const [name, { data, shape }] of inputs) values.set(name, toTensor(tf, name, data, shape));
  evaluate(tf, plan, values, (tensor) => tensor.dispose());
  return names.map((name) => {
    const tensor = values.get(name);
    assert(tensor !== undefined, `the graph has no output ${name}`);
    // A copy of the handle: an output may be a constant, which is not the run's to dispose.
    return tf.clone(tensor);
  });
}

/** Into the array that was offered, or a new one. */
async function readTensor(
  name: string,
  tensor: Tensor,
  shape: readonly number[],
  into: Float32Array | undefined,
): Promise<Float32Array> {
  assert(
    tensor.dtype === 'float32' && tensor.size === product(shape),
    `output ${name} is ${tensor.dtype} [${tensor.shape.join(', ')}], expected float32 [${shape.join(', ')}]`,
  );
  const data = (await tensor.data()) as Float32Array;
  if (into === undefined) return Float32Array.from(data);
  into.set(data);
  return into;
}
