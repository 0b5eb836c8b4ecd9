// Keys and values of all slots: one buffer a block and kind, [slots, kvHeads, T, headDim], written in place by the graph.
// Rows are numbered from 0; row 0 is scratch: the partner of a lone row, and the third hand of a swap.

import type { Architecture } from '../model/architecture.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Tensor } from '../runtime/tensor.js';

export const SCRATCH_ROW = 0;

export class KvCache {
  readonly numRows: number;
  /** Tokens a row can hold. */
  readonly capacity: number;
  readonly #runtime: Runtime;
  readonly #heads: number;
  readonly #headDim: number;
  /** Two buffers a block: keys, values. */
  readonly #buffers: readonly Float32Array[];
  readonly #tensors = new Map<number, readonly Tensor[]>();

  constructor(runtime: Runtime, arch: Architecture, numRows: number, capacity: number) {
    this.#runtime = runtime;
    this.numRows = numRows;
    this.capacity = capacity;
    this.#heads = arch.numKvHeads;
    this.#headDim = arch.headDim;
    const size = numRows * this.#heads * capacity * this.#headDim;
    this.#buffers = Array.from({ length: 2 * arch.numLayers }, () => sharedFloats(size));
  }

  /** Floats that one token takes over all blocks. */
  get floatsPerToken(): number {
    return this.#buffers.length * this.#heads * this.#headDim;
  }

  /** Tensors over rows [first, first + count), in the order of the blocks, keys before values. Owned by the cache. */
  tensors(first: number, count: number): readonly Tensor[] {
    const key = first * (this.numRows + 1) + count;
    let tensors = this.#tensors.get(key);
    if (tensors === undefined) {
      const size = this.#heads * this.capacity * this.#headDim;
      const shape = [count, this.#heads, this.capacity, this.#headDim];
      tensors = this.#buffers.map((buffer) =>
        this.#runtime.tensor(buffer.subarray(first * size, (first + count) * size), shape),
      );
      this.#tensors.set(key, tensors);
    }
    return tensors;
  }

  /** Copies the first `length` tokens of a row. */
  copyRow(from: number, to: number, length: number): void {
    const head = this.capacity * this.#headDim;
    for (const buffer of this.#buffers) {
      for (let h = 0; h < this.#heads; h++) {
        const source = (from * this.#heads + h) * head;
        buffer.copyWithin((to * this.#heads + h) * head, source, source + length * this.#headDim);
      }
    }
  }

  swapRows(a: number, b: number, length: number): void {
    this.copyRow(a, SCRATCH_ROW, length);
    this.copyRow(b, a, length);
    this.copyRow(SCRATCH_ROW, b, length);
  }

  /** Tokens [start, end) of a row as one array [blocks, 2, kvHeads, end - start, headDim]: `out`, which is as long, or a new one. */
  read(row: number, start: number, end: number, out = this.#array(end - start)): Float32Array {
    this.#visit(row, start, end, (buffer, at, offset, length) =>
      out.set(buffer.subarray(at, at + length), offset),
    );
    return out;
  }

  #array(numTokens: number): Float32Array {
    return sharedFloats(this.floatsPerToken * numTokens);
  }

  /** The inverse of read. */
  write(row: number, start: number, end: number, values: Float32Array): void {
    this.#visit(row, start, end, (buffer, at, offset, length) =>
      buffer.set(values.subarray(offset, offset + length), at),
    );
  }

  /** Keys or values of one block for the first V tokens of a row; `values` is [kvHeads, V, headDim]. */
  writePrefix(row: number, layer: number, kind: 'k' | 'v', values: Float32Array): void {
    const buffer = this.#buffers[2 * layer + (kind === 'k' ? 0 : 1)]!;
    const length = values.length / this.#heads;
    for (let h = 0; h < this.#heads; h++)
      buffer.set(
        values.subarray(h * length, (h + 1) * length),
        (row * this.#heads + h) * this.capacity * this.#headDim,
      );
  }

  /** The inverse of writePrefix. */
  readPrefix(row: number, layer: number, kind: 'k' | 'v', numTokens: number): Float32Array {
    const buffer = this.#buffers[2 * layer + (kind === 'k' ? 0 : 1)]!;
    const length = numTokens * this.#headDim;
    const out = new Float32Array(this.#heads * length);
    for (let h = 0; h < this.#heads; h++) {
      const at = (row * this.#heads + h) * this.capacity * this.#headDim;
      out.set(buffer.subarray(at, at + length), h * length);
    }
    return out;
  }

  dispose(): void {
    for (const tensors of this.#tensors.values()) for (const tensor of tensors) tensor.dispose();
    this.#tensors.clear();
  }

  #visit(
    row: number,
    start: number,
    end: number,
    copy: (buffer: Float32Array, at: number, offset: number, length: number) => void,
  ): void {
    const length = (end - start) * this.#headDim;
    let offset = 0;
    for (const buffer of this.#buffers) {
      for (let h = 0; h < this.#heads; h++) {
        copy(buffer, ((row * this.#heads + h) * this.capacity + start) * this.#headDim, offset, length);
        offset += length;
      }
    }
  }
}

/** Shared memory is not counted towards the next garbage collection: plain buffers of this size would bring about one after the other. */
function sharedFloats(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT));
}
