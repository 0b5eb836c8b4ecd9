// The shared library that onnxruntime-node ships, opened through its C API: typed entry points and nothing more.
// Indices count the members of `struct OrtApi` (onnxruntime_c_api.h); its order is frozen by the C API's stability promise.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { GatewayError } from '../errors.js';

/** An address in native memory. */
export type Address = bigint;
/** Something that C reads or writes during the call: a typed array, or an address. */
export type NativeMemory = Address | ArrayBufferView | ArrayBuffer | null;

/** ORTCHAR_T: paths are UTF-16 on Windows. */
const PATH = process.platform === 'win32' ? 'const char16_t *' : 'const char *';
const API_VERSION = 23;
const NUM_ENTRIES = 160;

/** name -> [index in OrtApi, C prototype]. */
const ENTRIES = {
  getErrorMessage: [2, 'const char *OrtGetErrorMessage(void *status)'],
  createEnv: [3, 'void *OrtCreateEnv(int level, const char *id, _Out_ void **out)'],
  createSession: [7, `void *OrtCreateSession(void *env, ${PATH}path, void *options, _Out_ void **out)`],
  run: [
    9,
    'void *OrtRun(void *session, void *options, void *inNames, void *inValues, size_t numIn, void *outNames, size_t numOut, void *outValues)',
  ],
  createSessionOptions: [10, 'void *OrtCreateSessionOptions(_Out_ void **out)'],
  setOptimizedModelPath: [11, `void *OrtSetOptimizedModelPath(void *options, ${PATH}path)`],
  disableMemPattern: [17, 'void *OrtDisableMemPattern(void *options)'],
  setIntraOpNumThreads: [24, 'void *OrtSetIntraOpNumThreads(void *options, int threads)'],
  createTensorWithData: [
    49,
    'void *OrtCreateTensorWithData(void *info, void *data, size_t bytes, int64_t *shape, size_t rank, int type, _Out_ void **out)',
  ],
  createCpuMemoryInfo: [69, 'void *OrtCreateCpuMemoryInfo(int allocator, int type, _Out_ void **out)'],
  releaseStatus: [93, 'void OrtReleaseStatus(void *status)'],
  releaseSession: [95, 'void OrtReleaseSession(void *session)'],
  releaseValue: [96, 'void OrtReleaseValue(void *value)'],
  releaseSessionOptions: [100, 'void OrtReleaseSessionOptions(void *options)'],
  addSessionConfigEntry: [
    130,
    'void *OrtAddSessionConfigEntry(void *options, const char *key, const char *value)',
  ],
  createAndRegisterAllocator: [
    144,
    'void *OrtCreateAndRegisterAllocator(void *env, void *info, void *arena)',
  ],
  createArenaCfg: [
    156,
    'void *OrtCreateArenaCfg(size_t max, int strategy, int initialBytes, int maxDeadBytes, _Out_ void **out)',
  ],
} as const satisfies Record<string, readonly [number, string]>;

/** Type names are global to the process, so prototypes are declared once, here. */
const GET_API = koffi.proto('void *OrtGetApi(uint32_t version)');
const PROTOTYPES = Object.entries(ENTRIES).map(
  ([name, [index, prototype]]) => [name, index, koffi.proto(prototype)] as const,
);

/** Held for the life of the process: collecting the handle would unload the library under its own threads. */
const LIBRARY = koffi.load(libraryPath());

/** Held like the library itself. */
const OPERATOR_LIBRARIES = new Map<string, ReturnType<typeof koffi.load>>();

type EntryName = keyof typeof ENTRIES;
type NativeFunction = ReturnType<typeof koffi.decode>;
export type OrtApi = Readonly<Record<EntryName, NativeFunction>>;

/** The C API's function table. (Importing this file throws GatewayError unavailable where the platform has no build.) */
export function openLibrary(): OrtApi {
  const apiBase = LIBRARY.func('void *OrtGetApiBase()')();
  const [getApi] = koffi.decode(apiBase, koffi.array('void *', 2)) as unknown[];
  const api = koffi.decode(getApi, GET_API)(API_VERSION);
  const table = koffi.decode(api, koffi.array('void *', NUM_ENTRIES)) as unknown[];
  return Object.fromEntries(
    PROTOTYPES.map(([name, index, prototype]) => [name, koffi.decode(table[index], prototype)]),
  ) as OrtApi;
}

export interface OperatorLibrary {
  /** Adds its operators to session options; returns a status. */
  register(options: Address): unknown;
  /** f32 to f16, rounded to nearest. */
  toHalf(values: Float32Array, out: Uint16Array): void;
}

/** A library of operators (native/operators.c). It stays loaded for the life of the process. */
export function openOperators(path: string): OperatorLibrary {
  let library = OPERATOR_LIBRARIES.get(path);
  if (library === undefined) OPERATOR_LIBRARIES.set(path, (library = koffi.load(path)));
  const register = library.func('void *RegisterCustomOps(void *options, void *apiBase)');
  const apiBase = LIBRARY.func('void *OrtGetApiBase()')();
  const toHalf = library.func('void float_to_half(void *values, void *out, size_t count)');
  return {
    register: (options) => register(options, apiBase),
    toHalf: (values, out) => toHalf(values, out, values.length),
  };
}

/** Calls an entry point on a thread of its own; what the arguments point to must stay as it is until the promise settles. */
export function callAsync(entry: NativeFunction, inputs: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    entry.async(...inputs, (error: Error | null, result: unknown) =>
      error ? reject(error) : resolve(result),
    );
  });
}

/** The address of native memory that koffi handed out. */
export function addressOf(pointer: unknown): Address {
  return typeof pointer === 'bigint' ? pointer : koffi.address(pointer);
}

/** A zero-terminated copy of `text` whose address stays valid as long as the returned array lives. */
export function nativeString(text: string): { readonly bytes: Uint8Array; readonly address: Address } {
  const encoded = new TextEncoder().encode(`${text}\0`);
  const bytes = new Uint8Array(new ArrayBuffer(encoded.length));
  bytes.set(encoded);
  return { bytes, address: addressOf(bytes) };
}

function libraryPath(): string {
  const require = createRequire(import.meta.url);
  const root = dirname(require.resolve('onnxruntime-node/package.json'));
  const name = {
    linux: 'libonnxruntime.so.1',
    darwin: 'libonnxruntime.1.30.0.dylib',
    win32: 'onnxruntime.dll',
  }[process.platform as string];
  const path = join(root, 'bin', 'napi-v6', process.platform, process.arch, name ?? '');
  if (name !== undefined && existsSync(path)) return path;
  throw new GatewayError(
    'unavailable',
    `Expected onnxruntime-node to ship a library for ${process.platform}-${process.arch}, found none at ${path}. ` +
      'Supported: linux-x64, linux-arm64, darwin-arm64, win32-x64.',
  );
}
