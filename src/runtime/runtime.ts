// One ONNX Runtime environment: makes tensors over memory that the caller owns, and sessions.
// Synchronous except where sessions are loaded and run, which happens on threads of their own.
// It knows no models. Every object that holds native memory has dispose(); `liveHandles` counts those that were not disposed.

import { assert, AssertionError } from '../errors.js';
import {
  addressOf,
  callAsync,
  openLibrary,
  openOperators,
  type Address,
  type OperatorLibrary,
  type OrtApi,
} from './library.js';
import { Session, type SessionOptions } from './session.js';
import { ELEMENT_TYPES, Tensor, type TensorData } from './tensor.js';

const LOG_SEVERITY = 3; // errors only
const DEVICE_ALLOCATOR = 0;
const ARENA_ALLOCATOR = 1;
const GROW_BY_REQUEST = 1;
const LIBRARY_DEFAULT = -1;
const CPU_MEMORY = 0;

export class Runtime {
  readonly api: OrtApi;
  readonly #env: Address;
  readonly #memoryInfo: Address;
  readonly #operators: OperatorLibrary | null;
  #liveHandles = 0;
  #hasSharedArena = false;

  /** `kernels` is a library of operators for its sessions (native-kernels.ts), or null. */
  constructor(kernels: string | null = null) {
    this.api = openLibrary();
    this.#operators = kernels === null ? null : openOperators(kernels);
    this.#env = this.create((out) => this.api.createEnv(LOG_SEVERITY, 'serving', out));
    this.#memoryInfo = this.create((out) => this.api.createCpuMemoryInfo(DEVICE_ALLOCATOR, CPU_MEMORY, out));
  }

  /** Whether its sessions know the operators of the domain `native`. */
  get hasNativeKernels(): boolean {
    return this.#operators !== null;
  }

  /** f32 to f16 into `out`, which is as long. Only with native kernels. */
  toHalf(values: Float32Array, out: Uint16Array): void {
    assert(
      this.#operators !== null && values.length === out.length,
      'toHalf without kernels, or of two lengths',
    );
    this.#operators.toHalf(values, out);
  }

  /** Tensors and sessions that were made and not disposed. */
  get liveHandles(): number {
    return this.#liveHandles;
  }

  /**
   * A tensor over `data` itself, row-major; no copy is made, so results appear in `data`.
   * `data` must hold exactly the product of `shape` elements (a BigInt64Array is int64, Int32Array int32, Float32Array f32, Uint8Array uint8).
   */
  tensor(data: TensorData, shape: readonly number[]): Tensor {
    const size = shape.reduce((product, dim) => product * dim, 1);
    assert(size === data.length, `tensor of shape [${shape.join(', ')}] over ${data.length} elements`);
    const type = ELEMENT_TYPES[data[Symbol.toStringTag]];
    const value = this.create((out) =>
      this.api.createTensorWithData(
        this.#memoryInfo,
        data,
        data.byteLength,
        [...shape],
        shape.length,
        type,
        out,
      ),
    );
    this.#liveHandles++;
    return new Tensor(data, shape, value, () => {
      this.#liveHandles--;
      this.api.releaseValue(value);
    });
  }

  /** Loads a model file on a thread of its own. Throws AssertionError with the library's message where it refuses the model. */
  async session(modelPath: string, options: SessionOptions): Promise<Session> {
    const native = this.#sessionOptions(options);
    const out: unknown[] = [null];
    try {
      this.check(await callAsync(this.api.createSession, [this.#env, modelPath, native, out]));
    } finally {
      this.api.releaseSessionOptions(native);
    }
    const session = addressOf(out[0]);
    this.#liveHandles++;
    return new Session(this, session, () => {
      this.#liveHandles--;
      this.api.releaseSession(session);
    });
  }

  /** Throws AssertionError with the library's message where `status` is an error. */
  check(status: unknown): void {
    if (!status) return;
    const message = String(this.api.getErrorMessage(status));
    this.api.releaseStatus(status);
    throw new AssertionError(`ONNX Runtime: ${message}`);
  }

  /** Calls a C function that returns its result through an out parameter. */
  create(call: (out: unknown[]) => unknown): Address {
    const out: unknown[] = [null];
    this.check(call(out));
    return addressOf(out[0]);
  }

  #sessionOptions(options: SessionOptions): Address {
    const native = this.create((out) => this.api.createSessionOptions(out));
    this.check(this.api.setIntraOpNumThreads(native, options.threads));
    if (this.#operators !== null) this.check(this.#operators.register(native));
    if (options.saveOptimizedTo !== undefined)
      this.check(this.api.setOptimizedModelPath(native, options.saveOptimizedTo));
    if (options.sharedArena === true) {
      this.#shareArena();
      this.check(this.api.disableMemPattern(native));
      this.check(this.api.addSessionConfigEntry(native, 'session.use_env_allocators', '1'));
    }
    for (const [key, value] of Object.entries(options.config ?? {}))
      this.check(this.api.addSessionConfigEntry(native, key, value));
    return native;
  }

  #shareArena(): void {
    if (this.#hasSharedArena) return;
    const arena = this.create((out) =>
      this.api.createArenaCfg(0, GROW_BY_REQUEST, LIBRARY_DEFAULT, LIBRARY_DEFAULT, out),
    );
    const memory = this.create((out) => this.api.createCpuMemoryInfo(ARENA_ALLOCATOR, CPU_MEMORY, out));
    this.check(this.api.createAndRegisterAllocator(this.#env, memory, arena));
    this.#hasSharedArena = true;
  }
}
