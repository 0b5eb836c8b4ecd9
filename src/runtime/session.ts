// A loaded graph and its runs. Inputs and outputs are named tensors that the caller made; an output may alias an input.

import { assert } from '../errors.js';
import { callAsync, nativeString, type Address } from './library.js';
import type { Runtime } from './runtime.js';
import type { Tensor } from './tensor.js';

export interface SessionOptions {
  readonly threads: number;
  /**
   * Takes memory from the one arena that all such sessions share, which grows by what is asked for, and plans none in advance: for many
   * graphs that run in turn. Off, a session has an arena of its own that grows by doubling.
   */
  readonly sharedArena?: boolean;
  /** Writes the optimized graph here while loading. */
  readonly saveOptimizedTo?: string;
  /** Session configuration entries (onnxruntime_session_options_config_keys.h). */
  readonly config?: Readonly<Record<string, string>>;
}

export type NamedTensors = Iterable<readonly [string, Tensor]>;

interface NativeCall {
  readonly inNames: BigUint64Array;
  readonly inValues: BigUint64Array;
  readonly outNames: BigUint64Array;
  readonly outValues: BigUint64Array;
}

export class Session {
  readonly #runtime: Runtime;
  readonly #session: Address;
  readonly #names = new Map<string, ReturnType<typeof nativeString>>();
  #release: (() => void) | null;
  /** Runs under way; holding them keeps their arrays from the garbage collector. */
  readonly #running = new Set<NativeCall>();

  constructor(runtime: Runtime, session: Address, release: () => void) {
    this.#runtime = runtime;
    this.#session = session;
    this.#release = release;
  }

  /**
   * One run of the graph on a thread of its own; the event loop stays free. The tensors' arrays must not be touched until it settles.
   * Throws AssertionError with the library's message.
   */
  async run(inputs: NamedTensors, outputs: NamedTensors): Promise<void> {
    const call = this.#prepare(inputs, outputs);
    this.#running.add(call);
    try {
      this.#runtime.check(await callAsync(this.#runtime.api.run, this.#arguments(call)));
    } finally {
      this.#running.delete(call);
    }
  }

  /** The same, blocking: for tools and tests. */
  runSync(inputs: NamedTensors, outputs: NamedTensors): void {
    this.#runtime.check(this.#runtime.api.run(...this.#arguments(this.#prepare(inputs, outputs))));
  }

  /** Frees the graph. Never while a run is under way: the library would abort the process. */
  dispose(): void {
    if (this.#release === null) return;
    assert(this.#running.size === 0, 'session disposed during a run');
    this.#release();
    this.#release = null;
  }

  #prepare(inputs: NamedTensors, outputs: NamedTensors): NativeCall {
    assert(this.#release !== null, 'session used after dispose');
    const [inNames, inValues] = this.#columns(inputs);
    const [outNames, outValues] = this.#columns(outputs);
    return { inNames, inValues, outNames, outValues };
  }

  #columns(tensors: NamedTensors): [BigUint64Array, BigUint64Array] {
    const names: bigint[] = [];
    const values: bigint[] = [];
    for (const [name, tensor] of tensors) {
      names.push(this.#name(name));
      values.push(tensor.value);
    }
    return [BigUint64Array.from(names), BigUint64Array.from(values)];
  }

  #name(name: string): Address {
    let native = this.#names.get(name);
    if (native === undefined) this.#names.set(name, (native = nativeString(name)));
    return native.address;
  }

  #arguments(call: NativeCall): unknown[] {
    return [
      this.#session,
      null,
      call.inNames,
      call.inValues,
      call.inNames.length,
      call.outNames,
      call.outNames.length,
      call.outValues,
    ];
  }
}
