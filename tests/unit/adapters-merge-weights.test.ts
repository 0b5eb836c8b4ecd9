// Merging is the serving graph's formula on one matrix, and names what it cannot do.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  mergeable,
  mergedBias,
  mergedProjections,
  projectionChange,
  rowMerger,
} from '../../src/adapters/merge-weights.js';
import { loraAdapter } from '../../src/adapters/lora-adapter.js';
import { seededRandom } from '../helpers/adapter-fixtures.js';

test('a row becomes outScale * (W + A B) * inScale, whatever the rank', () => {
  const random = seededRandom(1);
  const values = (size: number) => Float32Array.from({ length: size }, () => random());
  const [out, input] = [3, 7];
  for (const rank of [1, 4, 6]) {
    const lora = { rank, a: values(input * rank), b: values(rank * out) };
    const affine = { outScale: values(out), inScale: values(input), bias: null };
    const weights = values(out * input);
    const merged = weights.slice();
    const merge = rowMerger({ lora, affine }, input);
    for (let n = 0; n < out; n++) merge(n, merged, n * input);
    for (let n = 0; n < out; n++)
      for (let k = 0; k < input; k++) {
        let sum = weights[n * input + k]!;
        for (let r = 0; r < rank; r++) sum += lora.a[k * rank + r]! * lora.b[r * out + n]!;
        const expected = affine.outScale[n]! * sum * affine.inScale[k]!;
        assert(Math.abs(merged[n * input + k]! - expected) <= 2 ** -23 * Math.max(1, Math.abs(expected)));
      }
  }
});

test('an adapter that changes nothing of a projection leaves it bit for bit', () => {
  const bias = { outScale: null, inScale: null, bias: Float32Array.of(1, 2) };
  const row = Float32Array.of(0.1, 1e-30, -3);
  const merged = row.slice();
  rowMerger({ lora: null, affine: bias }, 3)(0, merged, 0);
  assert.deepEqual(merged, row);
  const layer = { lora: {}, affine: { q_proj: bias } };
  assert.deepEqual(mergedProjections(layer), []);
  assert.equal(projectionChange(layer, 'k_proj'), null);
});

test("a bias comes on top of the base's own", () => {
  const change = { lora: null, affine: { outScale: null, inScale: null, bias: Float32Array.of(1, 2) } };
  assert.deepEqual(mergedBias(Float32Array.of(0.5, -2), change), Float32Array.of(1.5, 0));
  assert.deepEqual(mergedBias(null, change), Float32Array.of(1, 2));
  assert.deepEqual(mergedBias(Float32Array.of(3), null), Float32Array.of(3));
  assert.equal(mergedBias(null, null), null);
});

test('virtual tokens and bottlenecks are refused by name', () => {
  const common = { hash: 'h', sizeBytes: 0, layers: [] };
  const refused = { name: 'GatewayError', code: 'unsupported_adapter' };
  const prefix = { kind: 'prefix', numVirtualTokens: 8, ...common } as const;
  assert.throws(() => mergeable('legal', prefix), {
    ...refused,
    message: /^legal cannot be .* 8 virtual tokens/,
  });
  const bottleneck = { kind: 'bottleneck', size: 4, ...common } as const;
  assert.throws(() => mergeable('legal', bottleneck), { ...refused, message: /bottlenecks/ });
  const lora = loraAdapter('h', []);
  assert.equal(mergeable('legal', lora), lora);
});
