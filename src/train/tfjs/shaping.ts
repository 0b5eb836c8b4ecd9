// Operators that move elements about without computing: shapes, axes, parts.

import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import { axisOf, intAttribute, product, transposition } from '../autodiff/shapes.js';
import { fromStart, type NodeCall, type Operation, requiredInts } from './operation.js';

export const SHAPING: Readonly<Record<string, Operation>> = {
  Reshape: (call) => call.tf.reshape(call.x[0]!, reshaped(call.x[0]!.shape, requiredInts(call, 1))),
  Transpose: ({ tf, node, x: [a] }) => tf.transpose(a!, [...transposition(node, a!.rank)]),
  Unsqueeze: (call) => call.tf.reshape(call.x[0]!, unsqueezed(call.x[0]!.shape, requiredInts(call, 1))),
  Squeeze: (call) => call.tf.reshape(call.x[0]!, squeezed(call.x[0]!.shape, call.ints(1))),
  Expand: expand,
  Concat: ({ tf, node, x }) => tf.concat([...x], axisOf(node, x[0]!.rank, 0)),
  Split: (call) => call.tf.split(call.x[0]!, splitSizes(call), splitAxis(call)),
  Slice: slice,
  Pad: pad,
};

/** 0 takes the dimension over, -1 takes what is left. */
function reshaped(from: readonly number[], to: readonly number[]): number[] {
  const known = to.map((dim, axis) => (dim === 0 ? from[axis]! : dim));
  const rest = product(from) / product(known.filter((dim) => dim !== -1));
  return known.map((dim) => (dim === -1 ? rest : dim));
}

function unsqueezed(shape: readonly number[], axes: readonly number[]): number[] {
  const rank = shape.length + axes.length;
  const added = new Set(axes.map((axis) => fromStart(axis, rank)));
  const dims = shape.values();
  return Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : dims.next().value!));
}

function squeezed(shape: readonly number[], axes: readonly number[] | null): number[] {
  const gone = new Set(axes?.map((axis) => fromStart(axis, shape.length)));
  return shape.filter((dim, axis) => (axes === null ? dim !== 1 : !gone.has(axis)));
}

/** By adding zeros: unlike the library's tiling, this has a derivative at any rank. */
function expand(call: NodeCall): Tensor {
  const { tf, x } = call;
  return tf.add(x[0]!, tf.zeros([...requiredInts(call, 1)], x[0]!.dtype as 'float32' | 'int32'));
}

function splitAxis({ node, x }: NodeCall): number {
  return axisOf(node, x[0]!.rank, 0);
}

/** Sizes as given, or `num_outputs` parts, the last of which may be smaller. */
function splitSizes(call: NodeCall): number[] {
  const sizes = call.ints(1);
  if (sizes !== null) return [...sizes];
  const total = call.x[0]!.shape[splitAxis(call)]!;
  const count = intAttribute(call.node, 'num_outputs', call.node.outputs.length);
  const size = Math.ceil(total / count);
  return Array.from({ length: count }, (_, i) => Math.min(size, total - i * size));
}

/** Starts and ends may count from the end, and are cut to the dimension; steps are 1. */
function slice(call: NodeCall): Tensor {
  const { tf, node, x } = call;
  const { shape, rank } = x[0]!;
  const [starts, ends] = [requiredInts(call, 1), requiredInts(call, 2)];
  const axes = call.ints(3) ?? starts.map((_, axis) => axis);
  assert(
    (call.ints(4) ?? []).every((step) => step === 1),
    `Slice ${node.name} has a step other than 1`,
  );
  const begin = shape.map(() => 0);
  const size = [...shape];
  axes.forEach((axis, i) => {
    const at = fromStart(axis, rank);
    const dim = shape[at]!;
    const bound = (value: number): number => Math.min(dim, Math.max(0, fromStart(value, dim)));
    begin[at] = bound(starts[i]!);
    size[at] = Math.max(0, bound(ends[i]!) - begin[at]);
  });
  return tf.slice(x[0]!, begin, size);
}

/** With zeros; [begin of each axis, end of each axis]. */
function pad(call: NodeCall): Tensor {
  const { tf, node, x } = call;
  const pads = requiredInts(call, 1);
  const { rank } = x[0]!;
  assert(x.length === 2 && pads.length === 2 * rank, `Pad ${node.name} is not by zeros on every axis`);
  return tf.pad(
    x[0]!,
    Array.from({ length: rank }, (_, axis): [number, number] => [pads[axis]!, pads[axis + rank]!]),
  );
}
