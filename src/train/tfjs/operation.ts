// What an operator of the trainer's graphs is in TensorFlow.js: a function from a node's input tensors to its output tensors.

import type * as tfjs from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { assert } from '../../errors.js';
import type { Node } from '../../graph/onnx.js';

/** The library, however it was loaded. f32 is float32; i64, i32 and u8 are int32. */
export type Tfjs = typeof tfjs;

export interface NodeCall {
  readonly tf: Tfjs;
  readonly node: Node;
  /** The inputs that are present, in order. */
  readonly x: readonly Tensor[];
  /** The values of an integer input, such as a shape; null where the node has no such input. */
  ints(index: number): readonly number[] | null;
}

/** Pure: the inputs stay as they are, the results are tensors of their own. Intermediate tensors are the caller's to dispose. */
export type Operation = (call: NodeCall) => Tensor | readonly Tensor[];

/** The values of an integer input that the node must have. */
export function requiredInts(call: NodeCall, index: number): readonly number[] {
  const { node } = call;
  const values = call.ints(index);
  assert(values !== null, `${node.op} ${node.name} has no input ${index}`);
  return values;
}

/** Axes or an axis from 0. */
export function fromStart(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
