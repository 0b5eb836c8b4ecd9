// The derivative of each operator: one table op -> rule. A rule gives for each input the expression of its gradient, or null where there
// is none; only those that lead to a wanted value are evaluated. Rules may return gradients of the broadcast shape: the walk sums them.

import { assert } from '../../errors.js';
import { MICROSOFT } from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';
import type { Expressions } from './expressions.js';
import { axisOf, floatAttribute, intAttribute, product, transposition, type Shape } from './shapes.js';

/** What a rule may use: x are the node's inputs, y its first output, dy the gradient of that, dys those of all (zeros where unread). */
export interface RuleInput {
  readonly node: Node;
  readonly x: readonly string[];
  readonly y: string;
  readonly dy: string;
  readonly dys: () => readonly string[];
}
export type Gradient = (() => string) | null;
export type Rule = (e: Expressions, input: RuleInput) => readonly Gradient[];

export const GRADIENT_RULES: Readonly<Record<string, Rule>> = {
  Add: (_, { dy }) => [() => dy, () => dy],
  Sub: (e, { dy }) => [() => dy, () => e.neg(dy)],
  Mul: (e, { x: [a, b], dy }) => [() => e.mul(dy, b!), () => e.mul(dy, a!)],
  Div: (e, { x: [, b], y, dy }) => [() => e.div(dy, b!), () => e.neg(e.div(e.mul(dy, y), b!))],
  Pow: (e, { x: [a, b], y, dy }) => [
    () => e.mul(dy, e.mul(b!, e.op('Pow', [a!, e.sub(b!, e.scalar(1))]))),
    () => e.mul(dy, e.mul(y, e.log(a!))),
  ],
  Neg: (e, { dy }) => [() => e.neg(dy)],
  Exp: (e, { y, dy }) => [() => e.mul(dy, y)],
  Log: (e, { x: [a], dy }) => [() => e.div(dy, a!)],
  Sqrt: (e, { y, dy }) => [() => e.div(e.scale(dy, 0.5), y)],
  Reciprocal: (e, { y, dy }) => [() => e.neg(e.mul(dy, e.mul(y, y)))],
  Sigmoid: (e, { y, dy }) => [() => e.mul(dy, e.mul(y, e.sub(e.scalar(1), y)))],
  Tanh: (e, { y, dy }) => [() => e.mul(dy, e.sub(e.scalar(1), e.mul(y, y)))],
  Relu: (e, { y, dy }) => [() => e.mul(dy, e.op('Sign', [y]))],
  Where: (e, { x: [condition], dy }) => [
    null,
    () => e.op('Where', [condition!, dy, e.scalar(0)]),
    () => e.op('Where', [condition!, e.scalar(0), dy]),
  ],
  Softmax: (e, { node, y, dy }) => [
    () => {
      const weighted = e.mul(dy, y);
      return e.sub(weighted, e.mul(y, e.sum(weighted, [axisOf(node, e.shape(y).length, -1)])));
    },
  ],
  LogSoftmax: (e, { node, y, dy }) => [
    () => e.sub(dy, e.mul(e.exp(y), e.sum(dy, [axisOf(node, e.shape(y).length, -1)]))),
  ],
  ReduceSum: (e, { node, x: [a], dy }) => [() => e.expand(keepReduced(e, node, dy), e.shape(a!)), null],
  ReduceMean: (e, { node, x: [a], y, dy }) => [
    () => {
      const share = product(e.shape(y)) / product(e.shape(a!));
      return e.expand(keepReduced(e, node, e.scale(dy, share)), e.shape(a!));
    },
    null,
  ],
  // Only of use in logSumExp, which is the same whatever is subtracted first.
  ReduceMax: () => [null, null],
  MatMul: (e, { x: [a, b], dy }) => [
    () => e.matmul(dy, b!, { transB: true }),
    () => e.matmul(a!, dy, { transA: true }),
  ],
  FusedMatMul: (e, { node, x: [a, b], dy }) => {
    const transA = intAttribute(node, 'transA', 0) === 1;
    const transB = intAttribute(node, 'transB', 0) === 1;
    const alpha = floatAttribute(node, 'alpha', 1);
    return [
      () =>
        transA
          ? e.matmul(b!, dy, { transA: transB, transB: true, alpha })
          : e.matmul(dy, b!, { transB: !transB, alpha }),
      () =>
        transB
          ? e.matmul(dy, a!, { transA: true, transB: transA, alpha })
          : e.matmul(a!, dy, { transA: !transA, alpha }),
    ];
  },
  // As if it did not round; the gradient's own product rounds too. W is frozen.
  Bfloat16Linear: (e, { node, x: [, w], dy }) => [
    () => e.bfloat16Product(dy, w!, intAttribute(node, 'transposed', 0) === 0),
    null,
  ],
  SimplifiedLayerNormalization: (e, { node, x: [a, weight], y, dy }) => {
    const inverseRms = node.outputs[1]!;
    return [
      () => {
        const along = e.mul(e.mul(inverseRms, inverseRms), e.mean(e.mul(dy, y), [-1]));
        return e.sub(e.mul(e.mul(dy, weight!), inverseRms), e.mul(a!, along));
      },
      () => e.mul(dy, e.mul(a!, inverseRms)),
    ];
  },
  RotaryEmbedding: (e, { x: [, positions, cos, sin], dy }) => [
    () => e.op('RotaryEmbedding', [dy, positions!, cos!, e.neg(sin!)], {}, MICROSOFT),
    null,
    null,
    null,
  ],
  Reshape: (e, { x: [a], dy }) => [() => e.reshape(dy, e.shape(a!)), null],
  Squeeze: (e, { x: [a], dy }) => [() => e.reshape(dy, e.shape(a!)), null],
  Unsqueeze: (e, { x: [a], dy }) => [() => e.reshape(dy, e.shape(a!)), null],
  Expand: (_, { dy }) => [() => dy, null],
  Identity: (_, { dy }) => [() => dy],
  Cast: (_, { node, dy }) => {
    const to = intAttribute(node, 'to', FLOAT);
    assert(to === FLOAT || to === BFLOAT16, `Cast ${node.name} is to no float: it has no gradient`);
    return [() => dy];
  },
  Transpose: (e, { node, dy }) => [() => e.transpose(dy, inverse(transposition(node, e.shape(dy).length)))],
  Split: (e, { node, x: [a], dys }) => [() => e.concat(dys(), axisOf(node, e.shape(a!).length, 0)), null],
  Concat: (e, { node, x, dy }) => {
    const axis = axisOf(node, e.shape(dy).length, 0);
    let end = 0;
    return x.map((part) => {
      const start = end;
      end += e.shape(part)[axis]!;
      const range = [start, end] as const;
      return () => e.slice(dy, ...range, axis);
    });
  },
  Slice: (e, { node, x: [a], y, dy }) => [
    () =>
      e.op('Pad', [
        dy,
        e.ints(...padding(node, e.constantInts(node, 1), e.constantInts(node, 3), e.shape(a!), e.shape(y))),
      ]),
    null,
    null,
    null,
  ],
  Gather: (e, { node, x: [table, indices], dy }) => {
    assert(
      axisOf(node, e.shape(table!).length, 0) === 0,
      `Gather ${node.name} has a gradient along axis 0 only`,
    );
    const positions = () => e.op('Unsqueeze', [indices!, e.ints(-1)]);
    const reduction = { reduction: { string: 'add' } };
    return [() => e.op('ScatterND', [e.zeros(e.shape(table!)), positions(), dy], reduction), null];
  },
};

/** ONNX's TensorProto.DataType. */
const FLOAT = 1;
const BFLOAT16 = 16;

/** `value`, a reduction's result or its gradient, with the reduced dimensions as ones. */
function keepReduced(e: Expressions, node: Node, value: string): string {
  const shape = e.shape(node.inputs[0]!);
  const axes = new Set(e.constantInts(node, 1).map((axis) => (axis < 0 ? axis + shape.length : axis)));
  return e.reshape(
    value,
    shape.map((dim, axis) => (axes.has(axis) ? 1 : dim)),
  );
}

function inverse(perm: readonly number[]): number[] {
  return perm.map((_, axis) => perm.indexOf(axis));
}

/** Zeros before and behind each axis that make a slice as large as what it was cut from. */
function padding(
  node: Node,
  starts: readonly number[],
  axes: readonly number[],
  from: Shape,
  to: Shape,
): number[] {
  assert(node.inputs.length === 4, `Slice ${node.name} has steps: it has no gradient`);
  const before = from.map(() => 0);
  axes.forEach((axis, i) => (before[axis < 0 ? axis + from.length : axis] = starts[i]!));
  return [...before, ...from.map((dim, axis) => dim - to[axis]! - before[axis]!)];
}
