// Collects the nodes of one ONNX graph. Each method returns the name of what it made, so calls nest like expressions.

import { assert } from '../errors.js';
import {
  encodeModel,
  type Attribute,
  type DataType,
  type EncodedInitializer,
  type Graph,
  type Initializer,
  type Node,
  type ValueInfo,
} from './onnx.js';

export type Attributes = Readonly<Record<string, Attribute>>;
export const int = (value: number): Attribute => ({ int: value });
export const float = (value: number): Attribute => ({ float: value });
export const ints = (...values: readonly number[]): Attribute => ({ ints: values });
/** Domain of ONNX Runtime's own operators. */
export const MICROSOFT = 'com.microsoft';
/** Domain of the project's own operators (native/operators.c). */
export const NATIVE = 'native';

export class GraphBuilder implements Graph {
  readonly nodes: Node[] = [];
  readonly initializers: (Initializer | EncodedInitializer)[] = [];
  readonly inputs: ValueInfo[] = [];
  readonly outputs: ValueInfo[] = [];
  readonly #names = new Set<string>();

  input(name: string, type: DataType, shape: readonly (number | string)[]): string {
    this.inputs.push({ name, type, shape });
    return this.#claim(name);
  }

  /** Declares that a value made by a node leaves the graph. */
  output(name: string, type: DataType, shape: readonly (number | string)[]): void {
    this.outputs.push({ name, type, shape });
  }

  /** A small constant, stored in the model file. */
  constant(name: string, values: Float32Array | BigInt64Array, shape: readonly number[]): string {
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.initializers.push({ name, type: values instanceof Float32Array ? 'f32' : 'i64', shape, data });
    return this.#claim(name);
  }

  /** A constant whose bytes are a range of another file beside the model. */
  external(
    name: string,
    type: DataType,
    shape: readonly number[],
    data: { readonly location: string; readonly offset: number; readonly length: number },
  ): string {
    this.initializers.push({ name, type, shape, data });
    return this.#claim(name);
  }

  /** A constant taken over from another model. */
  add(initializer: EncodedInitializer): string {
    this.initializers.push(initializer);
    return this.#claim(initializer.name);
  }

  /** A node with one output, which has the node's name. An input of '' is an optional one left out. */
  node(
    op: string,
    name: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    domain = '',
  ): string {
    this.nodes.push({ op, domain, name, inputs, outputs: [this.#claim(name)], attributes });
    return name;
  }

  /** A node with several outputs, named `${name}.${i}`; those not in `used` are left out. */
  nodeN(
    op: string,
    name: string,
    inputs: readonly string[],
    used: readonly number[],
    attributes: Attributes = {},
    domain = '',
  ): string[] {
    const count = Math.max(...used) + 1;
    const outputs = Array.from({ length: count }, (_, i) =>
      used.includes(i) ? this.#claim(`${name}.${i}`) : '',
    );
    this.nodes.push({ op, domain, name, inputs, outputs, attributes });
    return used.map((i) => outputs[i]!);
  }

  encode(): Uint8Array {
    return encodeModel(this);
  }

  #claim(name: string): string {
    assert(!this.#names.has(name), `two values are named ${name}`);
    this.#names.add(name);
    return name;
  }
}
