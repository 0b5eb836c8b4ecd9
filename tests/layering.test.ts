// Which folder of src may import which: the arrows of docs/architecture.md, enforced.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';
import { test } from 'node:test';

const src = join(import.meta.dirname, '..', 'src');

/** folder -> folders it may import; `type:` marks those of which only types. Itself and errors.ts always; main.ts, gateway.ts, cli.ts and cli/ may import all. */
const ALLOWED: Record<string, readonly string[]> = {
  server: ['type:engine', 'adapters', 'tokenizer', 'type:train', 'tenants'],
  train: ['data', 'adapters', 'model', 'graph', 'runtime', 'formats', 'tokenizer', 'tenants'],
  data: ['type:tokenizer', 'formats'],
  engine: ['runtime', 'adapters', 'model'],
  adapters: ['model', 'graph', 'formats', 'tenants'],
  model: ['graph', 'runtime', 'formats'],
  tenants: [],
  graph: [],
  formats: [],
  tokenizer: [],
  runtime: [],
};
const ONLY_IN: Record<string, string> = { koffi: 'runtime', 'onnxruntime-node': 'runtime' };
const ROOTS = new Set(['main.ts', 'gateway.ts', 'cli.ts', 'cli', 'config.ts', 'errors.ts']);

function imports(file: string): { target: string; typeOnly: boolean }[] {
  const text = readFileSync(join(src, file), 'utf8');
  return [...text.matchAll(/^(?:import|export)\s+(type\s)?(?:[^'"]*?from\s+)?'([^']+)'/gm)].map((match) => ({
    target: match[2]!,
    typeOnly: match[1] !== undefined,
  }));
}

test('every import follows the layering', () => {
  const faults: string[] = [];
  for (const file of readdirSync(src, { recursive: true }).map(String)) {
    if (!file.endsWith('.ts')) continue;
    const folder = file.split(sep)[0]!;
    for (const { target, typeOnly } of imports(file)) {
      const keeper = ONLY_IN[target.split('/')[0]!];
      if (keeper !== undefined && folder !== keeper)
        faults.push(`${file}: only ${keeper}/ may import ${target}`);
      if (!target.startsWith('.') || ROOTS.has(folder)) continue;
      const other = relative(src, normalize(join(src, dirname(file), target))).split(sep)[0]!;
      const allowed = ALLOWED[folder];
      assert(allowed, `${folder}/ is not in the layering table`);
      const fine =
        other === folder ||
        other === 'errors.js' ||
        allowed.includes(other) ||
        (typeOnly && allowed.includes(`type:${other}`));
      if (!fine) faults.push(`${file}: ${folder} may not import ${target}`);
    }
  }
  assert.deepEqual(faults, []);
});
