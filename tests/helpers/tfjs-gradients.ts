// TensorFlow.js's own differentiation of a graph's forward nodes, with its plain JavaScript kernels: an oracle that knows nothing of our
// gradient rules. (Its WebAssembly kernels lack that of Gather's derivative.)
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { GraphBuilder } from '../../src/graph/builder.js';
import { loadTfjs } from '../../src/train/tfjs/load.js';
import type { Tfjs } from '../../src/train/tfjs/operation.js';
import { evaluate, planGraph } from '../../src/train/tfjs/plan.js';
import { toTensor } from '../../src/train/tfjs/tensors.js';
import type { InputValue } from '../../src/train/types.js';

/** The library with derivatives. They are not in the package's main file, and their own imports need the loader that tests run with. */
export async function loadDifferentiableTfjs(): Promise<Tfjs> {
  const tf = await loadTfjs();
  tf.env().set('IS_TEST', true); // without it the next import advises on standard error to install something else
  await import('@tensorflow/tfjs-backend-cpu');
  createRequire(import.meta.url)('@tensorflow/tfjs-core/dist/register_all_gradients.js');
  return tf;
}

/** d(sum over outputs (output * its gradient)) / d(wanted inputs), by name; the graph is a forward graph, `outputs` name -> gradient. */
export async function tfjsGradients(
  tf: Tfjs,
  graph: GraphBuilder,
  outputs: ReadonlyMap<string, InputValue>,
  wanted: readonly string[],
  inputs: ReadonlyMap<string, InputValue>,
): Promise<ReadonlyMap<string, Float32Array>> {
  const plan = planGraph(graph);
  const backend = tf.getBackend();
  await tf.setBackend('cpu');
  const gradients = tf.tidy(() => {
    const fixed = new Map<string, Tensor>();
    for (const [name, { data, shape }] of [...plan.constants, ...inputs])
      fixed.set(name, toTensor(tf, name, data, shape));
    const loss = (...variables: Tensor[]): Scalar => {
      const values = new Map(fixed);
      wanted.forEach((name, i) => values.set(name, variables[i]!));
      evaluate(tf, plan, values, () => undefined);
      const parts = [...outputs].map(([name, { data, shape }]) =>
        tf.sum(tf.mul(values.get(name)!, toTensor(tf, name, data, shape))),
      );
      return tf.addN(parts) as Scalar;
    };
    return tf.grads(loss)(wanted.map((name) => fixed.get(name)!));
  });
  const found = wanted.map((name, i) => {
    assert.deepEqual(gradients[i]!.shape, inputs.get(name)!.shape, `shape of the gradient of ${name}`);
    return [name, Float32Array.from(gradients[i]!.dataSync())] as const;
  });
  tf.dispose(gradients);
  await tf.setBackend(backend);
  return new Map(found);
}
