// An architecture as GGUF's keys and back; what llama.cpp would compute otherwise is refused; llama3's scaling is found in its factors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Architecture, RopeScaling } from '../../src/model/architecture.js';
import { architectureFromGguf } from '../../src/model/gguf-config.js';
import { architectureMetadata, ropeDivisors } from '../../src/model/gguf-metadata.js';
import { llama3Scaling } from '../../src/model/llama3-scaling.js';
import { ggufName, tensorList } from '../../src/model/tensor-list.js';
import { smallArchitecture } from '../helpers/architecture.js';

const LLAMA = smallArchitecture({
  headDim: 32,
  intermediateSize: 96,
  contextLength: 4096,
  rmsNormEps: 2 ** -17,
});
const LLAMA3: RopeScaling = {
  type: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalContextLength: 8192,
};

function roundTrip(arch: Architecture): Architecture {
  const entries = Object.entries(architectureMetadata(arch, 'x'));
  const metadata = new Map(
    entries.map(([key, { type, value }]) => [key, type === 'f32' ? Math.fround(value) : value]),
  );
  const tensors = new Map(tensorList(arch).map(({ name, shape }) => [ggufName(name), { shape }]));
  return architectureFromGguf(metadata, tensors, 'x.gguf', ropeDivisors(arch));
}

test('families, biases and scalings come back as they were written', () => {
  const yarn: RopeScaling = {
    type: 'yarn',
    factor: 4,
    originalContextLength: 1024,
    betaFast: 16,
    betaSlow: 2,
    attentionFactor: 1 + 0.1 * Math.log(4),
  };
  const cases: readonly Architecture[] = [
    LLAMA,
    { ...LLAMA, tiedHead: false, outputBias: true, mlpBias: true },
    { ...LLAMA, ropeScaling: { type: 'linear', factor: 2 } },
    { ...LLAMA, ropeScaling: yarn },
    { ...LLAMA, family: 'qwen2', headDim: 16, qkvBias: true },
    { ...LLAMA, family: 'qwen3', qkNorm: true, ropeTheta: 1_000_000 },
  ];
  for (const arch of cases) assert.deepEqual(roundTrip(arch), arch);
});

test('mistral is llama to llama.cpp, with no longer context than its window', () => {
  const mistral = roundTrip({ ...LLAMA, family: 'mistral', slidingWindow: 512 });
  assert.deepEqual([mistral.family, mistral.contextLength, mistral.slidingWindow], ['llama', 512, null]);
});

test("llama3's scaling becomes factors, and is found again in them", () => {
  const arch = { ...LLAMA, ropeTheta: 500_000, ropeScaling: LLAMA3 };
  const factors = [...ropeDivisors(arch)!];
  assert.deepEqual([factors[0], factors.at(-1)], [1, 8]);
  assert.deepEqual(llama3Scaling(arch, factors), LLAMA3);
  assert.equal(llama3Scaling(arch, factors.with(3, 2)), null);
});

test('what llama.cpp has no words for is refused', () => {
  const code = 'unsupported_model';
  const dynamic: RopeScaling = { type: 'dynamic', factor: 2, originalContextLength: 2048 };
  assert.throws(() => architectureMetadata({ ...LLAMA, ropeScaling: dynamic }, 'x'), {
    code,
    message: /no words for dynamic rotary scaling; export it as safetensors/,
  });
  assert.throws(() => ropeDivisors({ ...LLAMA, family: 'qwen3', ropeScaling: LLAMA3 }), {
    code,
    message: /llama3 rotary scaling in qwen3/,
  });
  assert.throws(() => architectureMetadata({ ...LLAMA, family: 'qwen2' }, 'x'), {
    code,
    message: /heads of 32/,
  });
});
