// Where the compiled kernels (native/) are for this machine. Set-up builds them where there is a C compiler; they take the place of the
// runtime's own operators in the serving graph, which are the fallback everywhere else.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../errors.js';

const FOLDER = join(import.meta.dirname, '..', '..', 'native', 'build');

const AVX512VNNI = ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl', 'avx512_vnni'];
const BFLOAT16_BUILD = 'avx512bf16';
/** Best first: the library's name, and the processor's features that it needs. */
const BUILDS = [
  [BFLOAT16_BUILD, [...AVX512VNNI, 'avx512_bf16']],
  ['avx512vnni', AVX512VNNI],
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

/** The library that has products in bfloat16 too, or null where this processor or the set-up has none. */
export function bfloat16Kernels(): string | null {
  return builtKernels().find((path) => path === pathOf(BFLOAT16_BUILD)) ?? null;
}

function pathOf(name: string): string {
  return join(FOLDER, `kernels-${name}.so`);
}

function processorFeatures(): ReadonlySet<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return new Set();
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return new Set(flags?.[1]?.trim().split(/\s+/) ?? []);
}
