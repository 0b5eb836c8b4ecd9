// Shapes of a graph's values, all of them fixed numbers: one table op -> rule over the inputs' shapes.

import { assert } from '../../errors.js';
import type { GraphBuilder } from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';

export type Shape = readonly number[];

/** Shapes of one graph, worked out as its nodes are added. */
export class ShapeTable {
  readonly #graph: GraphBuilder;
  readonly #shapes = new Map<string, Shape>();
  readonly #seen = { inputs: 0, initializers: 0, nodes: 0 };

  constructor(graph: GraphBuilder) {
    this.#graph = graph;
  }

  of(value: string): Shape {
    this.#update();
    const shape = this.#shapes.get(value);
    assert(shape !== undefined, `the graph has no value ${value}`);
    return shape;
  }

  #update(): void {
    const { inputs, initializers, nodes } = this.#graph;
    for (; this.#seen.inputs < inputs.length; this.#seen.inputs++) {
      const { name, shape } = inputs[this.#seen.inputs]!;
      this.#shapes.set(
        name,
        shape.map((dim) => {
          assert(typeof dim === 'number', `input ${name} has dimension ${dim}, which is no number`);
          return dim;
        }),
      );
    }
    for (; this.#seen.initializers < initializers.length; this.#seen.initializers++) {
      const initializer = initializers[this.#seen.initializers]!;
      if ('shape' in initializer) this.#shapes.set(initializer.name, initializer.shape);
    }
    for (; this.#seen.nodes < nodes.length; this.#seen.nodes++) this.#infer(nodes[this.#seen.nodes]!);
  }

  #infer(node: Node): void {
    const rule = SHAPE_RULES[node.op];
    assert(rule !== undefined, `no shape rule for op ${node.op} of node ${node.name}`);
    const inputs = node.inputs.map((name) => this.#shapes.get(name) ?? []);
    const shapes = rule(inputs, { node, ints: (index) => constantInts(this.#graph, node, index) });
    node.outputs.forEach((name, i) => this.#shapes.set(name, shapes[i]!));
  }
}

/** The values of a node's input that is an integer constant of the graph. */
export function constantInts(graph: GraphBuilder, node: Node, index: number): number[] {
  const constant = graph.initializers.find(({ name }) => name === node.inputs[index]);
  assert(
    constant !== undefined &&
      'type' in constant &&
      constant.type === 'i64' &&
      constant.data instanceof Uint8Array,
    `input ${index} of ${node.op} ${node.name} must be an integer constant`,
  );
  return Array.from(new BigInt64Array(constant.data.slice().buffer), Number);
}

interface NodeFacts {
  readonly node: Node;
  /** The values of an input that is a constant. */
  readonly ints: (index: number) => number[];
}
type ShapeRule = (inputs: readonly Shape[], facts: NodeFacts) => readonly Shape[];

export function intAttribute(node: Node, name: string, fallback: number): number {
  const attribute = node.attributes[name];
  return attribute !== undefined && 'int' in attribute ? attribute.int : fallback;
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  const attribute = node.attributes[name];
  return attribute !== undefined && 'float' in attribute ? attribute.float : fallback;
}

export function intsAttribute(node: Node, name: string): readonly number[] | null {
  const attribute = node.attributes[name];
  return attribute !== undefined && 'ints' in attribute ? attribute.ints : null;
}

/** From 0. */
export function axisOf(node: Node, rank: number, fallback: number): number {
  const axis = intAttribute(node, 'axis', fallback);
  return axis < 0 ? axis + rank : axis;
}

export function transposition(node: Node, rank: number): readonly number[] {
  return intsAttribute(node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
}

const same: ShapeRule = ([x]) => [x!];
const elementwise: ShapeRule = (inputs) => [inputs.reduce((a, b) => broadcast(a, b))];

const SHAPE_RULES: Readonly<Record<string, ShapeRule>> = {
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Pow: elementwise,
  Where: elementwise,
  Neg: same,
  Exp: same,
  Log: same,
  Sqrt: same,
  Reciprocal: same,
  Sigmoid: same,
  Tanh: same,
  Relu: same,
  Sign: same,
  Softmax: same,
  LogSoftmax: same,
  Identity: same,
  Cast: same,
  ScatterND: same,
  RotaryEmbedding: same,
  SimplifiedLayerNormalization: ([x]) => [x!, [...x!.slice(0, -1), 1]],
  ReduceSum: reduce,
  ReduceMean: reduce,
  ReduceMax: reduce,
  MatMul: ([a, b]) => [matmul(a!, b!)],
  FusedMatMul: ([a, b], { node }) => [
    matmul(
      intAttribute(node, 'transA', 0) ? swapLast(a!) : a!,
      intAttribute(node, 'transB', 0) ? swapLast(b!) : b!,
    ),
  ],
  Reshape: ([x], { ints }) => [reshape(x!, ints(1))],
  Expand: ([x], { ints }) => [broadcast(x!, ints(1))],
  Transpose: ([x], { node }) => [transposition(node, x!.length).map((axis) => x![axis]!)],
  Unsqueeze: ([x], { ints }) => [unsqueeze(x!, ints(1))],
  Squeeze: ([x], { ints }) => [squeeze(x!, ints(1))],
  Split: ([x], { node, ints }) => ints(1).map((size) => replaced(x!, axisOf(node, x!.length, 0), size)),
  Concat: (inputs, { node }) => {
    const axis = axisOf(node, inputs[0]!.length, 0);
    return [
      replaced(
        inputs[0]!,
        axis,
        inputs.reduce((sum, shape) => sum + shape[axis]!, 0),
      ),
    ];
  },
  Slice: ([x], { ints }) => {
    const [starts, ends, axes] = [ints(1), ints(2), ints(3)];
    return [axes.reduce((shape, axis, i) => replaced(shape, axis, ends[i]! - starts[i]!), x!)];
  },
  Pad: ([x], { ints }) => {
    const pads = ints(1);
    return [x!.map((dim, axis) => dim + pads[axis]! + pads[axis + x!.length]!)];
  },
  Gather: ([x, indices], { node }) => {
    const axis = axisOf(node, x!.length, 0);
    return [[...x!.slice(0, axis), ...indices!, ...x!.slice(axis + 1)]];
  },
  Bfloat16Linear: ([x, w], { node }) => [replaced(x!, -1, w![intAttribute(node, 'transposed', 0)]!)],
  MatMulBnb4: ([x], { node }) => [[...x!.slice(0, -1), intAttribute(node, 'N', 0)]],
};

function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const [left, right] = [a, b].map((shape) => [...Array<number>(rank - shape.length).fill(1), ...shape]);
  return left!.map((dim, axis) => {
    const other = right![axis]!;
    assert(
      dim === other || dim === 1 || other === 1,
      `shapes [${a.join(', ')}] and [${b.join(', ')}] do not go together`,
    );
    return dim === 1 ? other : dim;
  });
}

function matmul(a: Shape, b: Shape): Shape {
  const [m, k] = a.slice(-2);
  const [inner, n] = b.slice(-2);
  assert(
    a.length >= 2 && b.length >= 2 && k === inner,
    `matrices [${a.join(', ')}] and [${b.join(', ')}] cannot be multiplied`,
  );
  return [...broadcast(a.slice(0, -2), b.slice(0, -2)), m!, n!];
}

function swapLast(shape: Shape): Shape {
  return [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!];
}

function reduce([x]: readonly Shape[], { node, ints }: NodeFacts): readonly Shape[] {
  const axes = new Set(ints(1).map((axis) => (axis < 0 ? axis + x!.length : axis)));
  const keep = intAttribute(node, 'keepdims', 1) === 1;
  return [x!.flatMap((dim, axis) => (axes.has(axis) ? (keep ? [1] : []) : [dim]))];
}

function reshape(from: Shape, to: readonly number[]): Shape {
  const size = product(from);
  const known = to.map((dim, axis) => (dim === 0 ? from[axis]! : dim));
  const rest = size / product(known.filter((dim) => dim !== -1));
  const shape = known.map((dim) => (dim === -1 ? rest : dim));
  assert(product(shape) === size, `[${from.join(', ')}] cannot be reshaped to [${to.join(', ')}]`);
  return shape;
}

function unsqueeze(x: Shape, axes: readonly number[]): Shape {
  const rank = x.length + axes.length;
  const added = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
  const dims = x.values();
  return Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : dims.next().value!));
}

function squeeze(x: Shape, axes: readonly number[]): Shape {
  const gone = new Set(axes.map((axis) => (axis < 0 ? axis + x.length : axis)));
  return x.filter((_, axis) => !gone.has(axis));
}

function replaced(shape: Shape, axis: number, size: number): Shape {
  const at = axis < 0 ? axis + shape.length : axis;
  return shape.map((dim, i) => (i === at ? size : dim));
}

export function product(shape: Shape): number {
  return shape.reduce((result, dim) => result * dim, 1);
}
