// A native tensor over memory that JavaScript owns. It keeps its array alive; disposing it frees the handle, not the array.

import type { Address } from './library.js';

export type TensorData = Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array;

/** ONNXTensorElementDataType by typed array. */
export const ELEMENT_TYPES: Readonly<Record<TensorData[typeof Symbol.toStringTag], number>> = {
  Float32Array: 1,
  Uint8Array: 2,
  Int32Array: 6,
  BigInt64Array: 7,
  // f16
  Uint16Array: 10,
};

export class Tensor {
  readonly data: TensorData;
  readonly shape: readonly number[];
  readonly value: Address;
  #release: (() => void) | null;

  constructor(data: TensorData, shape: readonly number[], value: Address, release: () => void) {
    this.data = data;
    this.shape = shape;
    this.value = value;
    this.#release = release;
  }

  dispose(): void {
    this.#release?.();
    this.#release = null;
  }
}
