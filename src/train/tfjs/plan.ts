// A graph made ready to be evaluated: each node with its function, the constants, and after which node a value is not needed any more.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import type { Graph, Node } from '../../graph/onnx.js';
import type { InputData } from '../types.js';
import type { NodeCall, Operation, Tfjs } from './operation.js';
import { OPERATIONS } from './operations.js';
import { constantData } from './tensors.js';

interface Step {
  readonly node: Node;
  readonly operation: Operation;
  /** Values that no later node reads: neither constants nor outputs of the graph. */
  readonly done: readonly string[];
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly constants: ReadonlyMap<string, { readonly data: InputData; readonly shape: readonly number[] }>;
}

/** Throws AssertionError for an op that is not in the table, naming op and node. */
export function planGraph(graph: Graph): Plan {
  const constants = new Map(
    graph.initializers.map((initializer) => {
      const data = constantData(initializer);
      return [initializer.name, { data, shape: 'shape' in initializer ? initializer.shape : [] }] as const;
    }),
  );
  const needed = new Set([...constants.keys(), ...graph.outputs.map(({ name }) => name)]);
  const steps: Step[] = [];
  for (const node of graph.nodes.toReversed()) {
    const operation = OPERATIONS[node.op];
    assert(operation !== undefined, `TensorFlow.js has no function for op ${node.op} of node ${node.name}`);
    const done = [...new Set([...node.inputs, ...node.outputs])].filter(
      (name) => name !== '' && !needed.has(name),
    );
    for (const name of done) needed.add(name);
    steps.push({ node, operation, done });
  }
  return { steps: steps.toReversed(), constants };
}

/**
 * Runs the nodes over `values`, which starts with the inputs and the constants and gets what the nodes make. `release` is told each
 * tensor that no later node reads.
 */
export function evaluate(
  tf: Tfjs,
  plan: Plan,
  values: Map<string, Tensor>,
  release: (tensor: Tensor) => void,
): void {
  for (const { node, operation, done } of plan.steps) {
    const made = tf.tidy(() => {
      const result = operation(nodeCall(tf, plan, node, values));
      return Array.isArray(result) ? (result as Tensor[]) : [result as Tensor];
    });
    assert(made.length >= node.outputs.length, `${node.op} ${node.name} made ${made.length} outputs`);
    made.forEach((tensor, i) => (node.outputs[i] ? values.set(node.outputs[i], tensor) : release(tensor)));
    for (const name of done) {
      release(values.get(name)!);
      values.delete(name);
    }
  }
}

function nodeCall(tf: Tfjs, { constants }: Plan, node: Node, values: ReadonlyMap<string, Tensor>): NodeCall {
  const tensor = (name: string): Tensor => {
    const found = values.get(name);
    assert(found !== undefined, `${node.op} ${node.name} reads ${name}, which has no value`);
    return found;
  };
  return {
    tf,
    node,
    x: node.inputs.filter((name) => name !== '').map(tensor),
    ints(index) {
      const name = node.inputs[index];
      if (!name) return null;
      return Array.from<number | bigint, number>(
        constants.get(name)?.data ?? tensor(name).dataSync(),
        Number,
      );
    },
  };
}
