// `npm test`: sets up a bare clone, then format, lint, types and every test but the slow tier (`--slow` runs that too).
// File names pick the tier: *.slow.test.ts needs a downloaded model or minutes; all else runs always.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildKernels, install, root, run } from './setup.mjs';

const slow = process.argv.includes('--slow');
const only = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

install();
buildKernels();
const bin = (name) => join(root, 'node_modules', '.bin', name);
if (only.length === 0) {
  run(bin('prettier'), ['--check', '--log-level=warn', '.']);
  run(bin('oxlint'), ['--type-aware', '--deny-warnings', 'src', 'tests', 'scripts']);
  run(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '--noEmit']);
}
const files = readdirSync(join(root, 'tests'), { recursive: true })
  .filter((file) => file.endsWith('.test.ts') && (slow || !file.endsWith('.slow.test.ts')))
  .filter((file) => only.length === 0 || only.some((part) => file.includes(part)))
  .map((file) => join('tests', file))
  .sort();
run(process.execPath, ['--import', 'tsx', '--test', '--test-timeout=600000', ...files]);
