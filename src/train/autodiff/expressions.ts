// Writes a graph as expressions: each call adds a node and returns its value's name, names are made up, small constants are shared,
// and every value's shape is known at once. All shapes are fixed numbers.

import { assert } from '../../errors.js';
import {
  float,
  int,
  ints,
  MICROSOFT,
  NATIVE,
  type Attributes,
  type GraphBuilder,
} from '../../graph/builder.js';
import type { Node } from '../../graph/onnx.js';
import { constantInts, ShapeTable, type Shape } from './shapes.js';

/** ONNX's TensorProto.DataType. */
const FLOAT = 1;
const BFLOAT16 = 16;

export class Expressions {
  readonly graph: GraphBuilder;
  readonly #prefix: string;
  readonly #shapes: ShapeTable;
  readonly #constants = new Map<string, string>();
  #count = 0;

  /** Values are named `${prefix}.0`, `${prefix}.1`, ...: no other value of the graph may begin with `prefix.`. */
  constructor(graph: GraphBuilder, prefix: string) {
    this.graph = graph;
    this.#prefix = prefix;
    this.#shapes = new ShapeTable(graph);
  }

  /** Of any value of the graph, whoever made it. */
  shape(value: string): Shape {
    return this.#shapes.of(value);
  }

  /** The values of a node's input that is an integer constant. */
  constantInts(node: Node, index: number): number[] {
    return constantInts(this.graph, node, index);
  }

  op(op: string, inputs: readonly string[], attributes: Attributes = {}, domain = ''): string {
    return this.graph.node(op, this.#name(), inputs, attributes, domain);
  }

  /** An i64 constant [values.length]. */
  ints(...values: readonly number[]): string {
    return this.#constant(`ints.${values.join('_')}`, BigInt64Array.from(values, BigInt), [values.length]);
  }

  /** An f32 constant []. */
  scalar(value: number): string {
    return this.#constant(`scalar.${value}`, Float32Array.of(value), []);
  }

  zeros(shape: Shape): string {
    return this.op('Expand', [this.scalar(0), this.ints(...shape)]);
  }

  add = (a: string, b: string): string => this.op('Add', [a, b]);
  sub = (a: string, b: string): string => this.op('Sub', [a, b]);
  mul = (a: string, b: string): string => this.op('Mul', [a, b]);
  div = (a: string, b: string): string => this.op('Div', [a, b]);
  neg = (a: string): string => this.op('Neg', [a]);
  exp = (a: string): string => this.op('Exp', [a]);
  log = (a: string): string => this.op('Log', [a]);
  sigmoid = (a: string): string => this.op('Sigmoid', [a]);
  tanh = (a: string): string => this.op('Tanh', [a]);
  scale = (a: string, factor: number): string => (factor === 1 ? a : this.mul(a, this.scalar(factor)));
  silu = (a: string): string => this.mul(a, this.sigmoid(a));

  /** RMS norm over the last dimension, times `weight`. */
  rmsNorm(x: string, weight: string, epsilon: number): string {
    const attributes = { axis: int(-1), epsilon: float(epsilon), stash_type: int(1) };
    // The second output is 1 / RMS, which the gradient reads.
    const outputs = [0, 1];
    return this.graph.nodeN(
      'SimplifiedLayerNormalization',
      this.#name(),
      [x, weight],
      outputs,
      attributes,
    )[0]!;
  }

  /** Rotates the pairs (i, i + D/2) of every head of x [B, S, heads * D] by its token's angle; cos and sin are [B * S, D/2]. */
  rotate(x: string, cos: string, sin: string): string {
    const [rows, tokens] = this.shape(x);
    const each = this.ints(...Array.from({ length: rows! * tokens! }, (_, i) => i));
    return this.op('RotaryEmbedding', [x, this.reshape(each, [rows!, tokens!]), cos, sin], {}, MICROSOFT);
  }

  /** alpha * op(a) · op(b); the last two dimensions are the matrices. */
  matmul(
    a: string,
    b: string,
    {
      transA = false,
      transB = false,
      alpha = 1,
    }: { transA?: boolean; transB?: boolean; alpha?: number } = {},
  ): string {
    const attributes = { transA: int(+transA), transB: int(+transB), alpha: float(alpha) };
    return this.op('FusedMatMul', [a, b], attributes, MICROSOFT);
  }

  /** x · Wᵀ, or `transposed` x · W, both rounded to bfloat16, of a constant W [N, K]: f32, or bytes [N, K, 2] of bfloat16. */
  bfloat16Product(x: string, w: string, transposed = false): string {
    return this.op('Bfloat16Linear', [x, w], { transposed: int(+transposed) }, NATIVE);
  }

  /** The nearest bfloat16, as f32. Its gradient is taken to be 1. */
  bfloat16(a: string): string {
    return this.op('Cast', [this.op('Cast', [a], { to: int(BFLOAT16) })], { to: int(FLOAT) });
  }

  reshape(a: string, shape: Shape): string {
    const current = this.shape(a);
    const isSame = shape.length === current.length && shape.every((dim, axis) => dim === current[axis]);
    return isSame ? a : this.op('Reshape', [a, this.ints(...shape)]);
  }

  transpose(a: string, perm: readonly number[]): string {
    return this.op('Transpose', [a], { perm: ints(...perm) });
  }

  expand(a: string, shape: Shape): string {
    return this.op('Expand', [a, this.ints(...shape)]);
  }

  concat(values: readonly string[], axis: number): string {
    return this.op('Concat', values, { axis: int(axis) });
  }

  /** Parts of these sizes along the axis. */
  split(a: string, sizes: readonly number[], axis: number): string[] {
    const used = sizes.map((_, i) => i);
    return this.graph.nodeN('Split', this.#name(), [a, this.ints(...sizes)], used, { axis: int(axis) });
  }

  /** [start, end) along one axis. */
  slice(a: string, start: number, end: number, axis: number): string {
    return this.op('Slice', [a, this.ints(start), this.ints(end), this.ints(axis)]);
  }

  sum(a: string, axes: readonly number[], keepDims = true): string {
    return this.op('ReduceSum', [a, this.ints(...axes)], { keepdims: int(+keepDims) });
  }

  mean(a: string, axes: readonly number[], keepDims = true): string {
    return this.op('ReduceMean', [a, this.ints(...axes)], { keepdims: int(+keepDims) });
  }

  /** Along the last dimension, which stays as a 1. (ReduceLogSumExp takes its exponentials one by one.) */
  logSumExp(a: string): string {
    const largest = this.op('ReduceMax', [a, this.ints(-1)]);
    return this.add(this.log(this.sum(this.exp(this.sub(a, largest)), [-1])), largest);
  }

  /** Sums the dimensions that broadcasting from `shape` stretched. */
  sumTo(a: string, shape: Shape): string {
    const from = this.shape(a);
    const lead = from.length - shape.length;
    assert(lead >= 0, `${a} of shape [${from.join(', ')}] cannot be summed to [${shape.join(', ')}]`);
    const axes = from.flatMap((dim, axis) => (axis < lead || dim !== shape[axis - lead] ? [axis] : []));
    return axes.length === 0 ? a : this.reshape(this.sum(a, axes), shape);
  }

  #name(): string {
    return `${this.#prefix}.${this.#count++}`;
  }

  #constant(key: string, values: Float32Array | BigInt64Array, shape: Shape): string {
    let name = this.#constants.get(key);
    if (name === undefined) {
      name = this.graph.constant(`${this.#prefix}.${key}`, values, shape);
      this.#constants.set(key, name);
    }
    return name;
  }
}
