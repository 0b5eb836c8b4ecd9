// Where the compiled kernels (native/) are for this machine. Set-up builds them where there is a C compiler; they take the place of the
// runtime's own operators in the serving graph, which are the fallback everywhere else.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../errors.js';

const FOLDER = join(import.meta.dirname, '..', '..', 'native', 'build');

/** Best first: the library's name, and the processor's features that it needs. */
const BUILDS = [
  ['avx512vnni', ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl', 'avx512_vnni']],
  ['avx2', ['avx2', 'fma', 'f16c']],
] as const;

export const KERNEL_CHOICES = ['auto', 'native', 'onnxruntime'] as const;
export type KernelChoice = (typeof KERNEL_CHOICES)[number];

/** The library to load, or null for the runtime's own operators. Throws GatewayError unavailable for `native` where there is none. */
export function chooseKernels(choice: KernelChoice): string | null {
  if (choice === 'onnxruntime') return null;
  const path = builtKernels()[0] ?? null;
  if (path === null && choice === 'native')
    throw new GatewayError(
      'unavailable',
      `Expected compiled kernels for this processor in ${FOLDER}, found none. They are compiled at set-up on Linux x64 with AVX2 where \`cc\` is a C compiler; \`kernels: auto\` does without.`,
      { param: 'kernels' },
    );
  return path;
}

/** Libraries that were compiled and that this processor can run, best first. */
export function builtKernels(): readonly string[] {
  const features = processorFeatures();
  return BUILDS.filter(([, needed]) => needed.every((each) => features.has(each)))
    .map(([name]) => pathOf(name))
    .filter((path) => existsSync(path));
}

function pathOf(name: string): string {
  return join(FOLDER, `kernels-${name}.so`);
}

function processorFeatures(): ReadonlySet<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return new Set();
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return new Set(flags?.[1]?.trim().split(/\s+/) ?? []);
}
