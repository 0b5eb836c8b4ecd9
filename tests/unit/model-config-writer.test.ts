// An architecture written as config.json is read as the same architecture.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Architecture, RopeScaling } from '../../src/model/architecture.js';
import { architectureFromConfig } from '../../src/model/config.js';
import { configFromArchitecture } from '../../src/model/config-writer.js';
import { BASES } from '../helpers/model-folder.js';

const TOKENS = { bosTokenId: 1, eosTokenIds: [2] };

function fixtureArchitecture(name: string): Architecture {
  const config: unknown = JSON.parse(readFileSync(join(BASES, name, 'config.json'), 'utf8'));
  return architectureFromConfig(config, name);
}

const reread = (arch: Architecture): Architecture =>
  architectureFromConfig(JSON.parse(JSON.stringify(configFromArchitecture(arch, TOKENS))), 'config.json');

for (const name of readdirSync(BASES).filter((base) => base !== 'gemma3-text'))
  test(`${name} is read back`, () => {
    const arch = fixtureArchitecture(name);
    assert.deepEqual(reread(arch), arch);
  });

const qwen2 = fixtureArchitecture('qwen2');
const llama = fixtureArchitecture('llama-tied');
const SCALINGS: readonly RopeScaling[] = [
  { type: 'linear', factor: 3 },
  { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 64 },
  { type: 'yarn', factor: 4, originalContextLength: 64, betaFast: 30, betaSlow: 2, attentionFactor: 1.5 },
  { type: 'dynamic', factor: 2, originalContextLength: llama.contextLength },
];
for (const ropeScaling of SCALINGS)
  test(`${ropeScaling.type} scaling is read back`, () => {
    const arch = { ...llama, ropeScaling };
    assert.deepEqual(reread(arch), arch);
  });

test('dynamic scaling is relative to the length that the file names', () => {
  const ropeScaling: RopeScaling = { type: 'dynamic', factor: 2, originalContextLength: 64 };
  const arch = { ...llama, ropeScaling };
  assert.deepEqual(reread(arch), { ...arch, contextLength: 64 });
});

test('a window is read back, as are several ends of a text', () => {
  assert.deepEqual(reread({ ...qwen2, slidingWindow: 9 }), { ...qwen2, slidingWindow: 9 });
  const config = configFromArchitecture(qwen2, { bosTokenId: null, eosTokenIds: [2, 5] });
  const { bos_token_id: bos, eos_token_id: eos } = config as Readonly<Record<string, unknown>>;
  assert.deepEqual([bos, eos], [null, [2, 5]]);
});

test('what the file has no words for is refused by name', () => {
  const factors = Array.from({ length: llama.headDim / 2 }, () => 2);
  for (const [arch, key] of [
    [{ ...llama, ropeScaling: { type: 'factors', factors } }, 'ropeScaling'],
    [{ ...qwen2, outputBias: true }, 'outputBias'],
    [{ ...llama, slidingWindow: 8 }, 'slidingWindow'],
  ] as const)
    assert.throws(() => configFromArchitecture(arch, TOKENS), {
      code: 'unsupported_model',
      param: key,
      message: new RegExp(`\`${key}\``),
    });
});
