// Loads TensorFlow.js, once it is asked for: the native packages where one is installed, else WebAssembly on the CPU.

import { createRequire } from 'node:module';
import util from 'node:util';
import { GatewayError } from '../../errors.js';
import type { Tfjs } from './operation.js';

/** Optional: their install step downloads TensorFlow, the first with CUDA. In the order of preference. */
export const NATIVE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;

/** How packages are found and loaded; tests put their own in its place. */
export interface PackageLoader {
  isInstalled(name: string): boolean;
  load(name: string): Promise<unknown>;
}

const nodePackages: PackageLoader = {
  isInstalled(name) {
    const { resolve } = createRequire(import.meta.url);
    try {
      return resolve(name) !== '';
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return false;
      throw error;
    }
  },
  load: (name) => import(name),
};

/** Ready to compute. Throws GatewayError unavailable where a native package is installed but does not load. */
export async function loadTfjs(packages: PackageLoader = nodePackages): Promise<Tfjs> {
  const native = NATIVE_PACKAGES.find((name) => packages.isInstalled(name));
  const tf = native === undefined ? await loadWasm(packages) : await loadNative(packages, native);
  await tf.ready();
  return tf;
}

async function loadWasm(packages: PackageLoader): Promise<Tfjs> {
  const tf = (await packages.load('@tensorflow/tfjs-core')) as Tfjs;
  await packages.load('@tensorflow/tfjs-backend-wasm');
  await tf.setBackend('wasm');
  return tf;
}

async function loadNative(packages: PackageLoader, name: string): Promise<Tfjs> {
  restoreTypeTests();
  try {
    return (await packages.load(name)) as Tfjs;
  } catch (error) {
    throw new GatewayError(
      'unavailable',
      `Expected ${name}, which is installed, to load; it failed: ${error instanceof Error ? error.message : String(error)}. ` +
        'Install it again with access to its downloads, or remove it to train on the CPU, or use the onnx backend.',
      { cause: error },
    );
  }
}

/** tfjs-node 4.22 calls tests of node:util that Node 23 removed. */
function restoreTypeTests(): void {
  const tests = util as unknown as Record<string, unknown>;
  tests['isArray'] ??= Array.isArray;
  tests['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
}
