// Brings a bare clone to the point where the product's code can run: installs the locked packages, compiles TypeScript.
// Plain JavaScript on Node's own modules, since nothing is installed when it runs.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..');

/** Runs a command in the repository's folder; ends this process with its exit code where it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
    ...options,
  });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** `npm ci` when the lock file is not the one that node_modules was made from. */
export function install() {
  requireNode(20, 12);
  const stamp = join(root, 'node_modules', '.installed-from');
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  console.error('installing packages ...');
  run('npm', ['ci', '--no-fund', '--no-audit', '--loglevel=error'], { stdio: ['ignore', 2, 2] });
  writeFileSync(stamp, lock);
}

/** Compiles src to dist when a source is newer than the last build. */
export function build() {
  const stamp = join(root, 'dist', '.built');
  const builtAt = existsSync(stamp) ? statSync(stamp).mtimeMs : 0;
  if (newestMtime(join(root, 'src')) <= builtAt) return;
  console.error('building ...');
  run(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json']);
  writeFileSync(stamp, '');
}

function newestMtime(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce(
    (newest, entry) => Math.max(newest, statSync(join(entry.parentPath, entry.name)).mtimeMs),
    0,
  );
}

function requireNode(major, minor) {
  const [haveMajor, haveMinor] = process.versions.node.split('.').map(Number);
  if (haveMajor > major || (haveMajor === major && haveMinor >= minor)) return;
  console.error(`Node ${major}.${minor} or newer is needed, this is ${process.versions.node}.`);
  process.exit(1);
}

const AVX512VNNI = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512vnni', '-mfma', '-mf16c'];
/** What the native kernels are compiled for; src/runtime/native-kernels.ts chooses among them. */
const KERNELS = {
  avx512bf16: [...AVX512VNNI, '-mavx512bf16'],
  avx512vnni: AVX512VNNI,
  avx2: ['-mavx2', '-mfma', '-mf16c'],
};

/** Compiles native/ where there is a C compiler; without one, ONNX Runtime's own operators serve. */
export function buildKernels() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return;
  const folder = join(root, 'native');
  const stamp = join(folder, 'build', '.built');
  const sources = readdirSync(folder).filter((name) => /\.[ch]$/.test(name));
  const newest = Math.max(...sources.map((name) => statSync(join(folder, name)).mtimeMs));
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newest) return;
  const compiler = process.env.CC ?? 'cc';
  if (spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status !== 0) {
    console.error(`no C compiler (${compiler}): serving with ONNX Runtime's own operators, which are slower`);
    return;
  }
  console.error('compiling kernels ...');
  mkdirSync(join(folder, 'build'), { recursive: true });
  const files = sources.filter((name) => name.endsWith('.c')).map((name) => join(folder, name));
  const flags = ['-std=c17', '-O3', '-shared', '-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra'];
  for (const [name, features] of Object.entries(KERNELS)) {
    // An old compiler may not know the newest instructions.
    const trial = [...features, '-fsyntax-only', '-x', 'c', '/dev/null'];
    if (spawnSync(compiler, trial, { stdio: 'ignore' }).status !== 0) continue;
    const library = join(folder, 'build', `kernels-${name}.so`);
    run(compiler, [...flags, ...features, '-o', `${library}.tmp`, ...files, '-lm']);
    renameSync(`${library}.tmp`, library);
  }
  writeFileSync(stamp, '');
}
