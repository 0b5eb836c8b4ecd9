// Reverse-mode differentiation of a graph: appends the nodes that compute gradients. The rules are a table (gradient-rules.ts); which of
// them run, accumulation and the sums over broadcast dimensions are decided here, once.

import { assert } from '../../errors.js';
import type { GraphBuilder } from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';
import { Expressions } from './expressions.js';
import { GRADIENT_RULES } from './gradient-rules.js';

/**
 * Appends to the graph the gradients of sum over outputs (output * its gradient) with respect to `wanted`, and returns their names, in
 * the order of `wanted`. `outputGradients` gives for values of the graph the names of values of the same shape (often inputs). Every
 * shape of the graph must be fixed. Throws AssertionError for an op without a rule on the way, naming op and node, and for a wanted
 * value that no output depends on.
 */
export function differentiate(
  graph: GraphBuilder,
  outputGradients: ReadonlyMap<string, string>,
  wanted: readonly string[],
): string[] {
  const nodes = [...graph.nodes];
  const e = new Expressions(graph, `gradient${nodes.length}`);
  const dependent = dependents(nodes, wanted);
  const gradients = new Map(outputGradients);
  for (const node of nodes.toReversed()) {
    const isOnPath =
      node.outputs.some((name) => gradients.has(name)) && node.inputs.some((name) => dependent.has(name));
    if (isOnPath) propagate(e, node, dependent, gradients);
  }
  return wanted.map((name) => {
    const gradient = gradients.get(name);
    assert(gradient !== undefined, `no output depends on ${name}`);
    return gradient;
  });
}

/** The wanted values and all that is computed from them. */
function dependents(nodes: readonly Node[], wanted: readonly string[]): ReadonlySet<string> {
  const found = new Set(wanted);
  for (const { inputs, outputs } of nodes)
    if (inputs.some((name) => found.has(name))) for (const name of outputs) if (name !== '') found.add(name);
  return found;
}

function propagate(
  e: Expressions,
  node: Node,
  dependent: ReadonlySet<string>,
  gradients: Map<string, string>,
): void {
  const rule = GRADIENT_RULES[node.op];
  assert(rule !== undefined, `no gradient rule for op ${node.op} of node ${node.name}`);
  const dys = () => node.outputs.map((name) => gradients.get(name) ?? e.zeros(e.shape(name)));
  const [y] = node.outputs;
  const parts = rule(e, { node, x: node.inputs, y: y!, dy: gradients.get(y!) ?? '', dys });
  assert(
    parts.length === node.inputs.length,
    `the rule of ${node.op} gives ${parts.length} gradients for ${node.inputs.length} inputs of ${node.name}`,
  );
  node.inputs.forEach((input, i) => {
    const part = parts[i];
    if (!dependent.has(input) || !part) return;
    const gradient = e.sumTo(part(), e.shape(input));
    const earlier = gradients.get(input);
    gradients.set(input, earlier === undefined ? gradient : e.add(earlier, gradient));
  });
}
