// NF4 against bitsandbytes 0.50.2 (tests/fixtures/nf4): the codes and the second level to the bit; sizes; edges of the layout.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AssertionError } from '../../src/errors.js';
import { dequantizeNf4, expandAbsmax, NF4_LEVELS, quantizeNf4, type Nf4Matrix } from '../../src/train/nf4.js';
import { fixtures, readTensors } from '../helpers/adapter-fixtures.js';

const tensors = readTensors(readFileSync(join(fixtures, 'nf4', 'nf4.safetensors')));
const data = (name: string): Float32Array => tensors.get(name)!.data;

/** Values with outliers, so that the blocks' magnitudes differ. */
function weights(size: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const uniform = (state + 0.5) / 2 ** 32;
    return Math.log(uniform / (1 - uniform)) * 0.03; // logistic: heavier tails than a normal's
  });
}

/** The definition: the level with the least distance, one value at a time. */
function plainCode(value: number, absmax: number): number {
  const distances = NF4_LEVELS.map((level) => Math.abs(value - level * absmax));
  return distances.indexOf(Math.min(...distances));
}

const codeAt = ({ codes }: Nf4Matrix, i: number): number =>
  i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15;

test('codes, magnitudes and values equal those of bitsandbytes to the bit', () => {
  const matrix = quantizeNf4(data('weight'), [64, 128]);
  assert.deepEqual([...matrix.codes], [...data('dq.packed')]);
  assert.deepEqual([...matrix.absmaxCodes], [...data('dq.absmax')]);
  assert.deepEqual([...matrix.absmax2], [...data('dq.nested_absmax')]);
  assert.equal(matrix.offset, data('dq.offset')[0]);
  assert.deepEqual(dequantizeNf4(matrix), data('dq.dequantised'));
});

test('the 256 magnitudes of the dynamic map are those of bitsandbytes to the bit', () => {
  const absmaxCodes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const map = expandAbsmax({ absmaxCodes, absmax2: Float32Array.of(1), offset: 0 });
  assert.deepEqual(map, data('dq.nested_code'));
});

test('the levels are those of bitsandbytes', () => {
  assert.deepEqual(Float32Array.from(NF4_LEVELS), data('code'));
});

test('takes exactly 4 + 8/64 + 32/(64 * 256) bits a value, and one f32 a matrix', () => {
  const size = 64 * 256 * 4;
  const { codes, absmaxCodes, absmax2 } = quantizeNf4(weights(size, 1), [size]);
  const bits = ((codes.byteLength + absmaxCodes.byteLength + absmax2.byteLength) * 8) / size;
  assert.equal(bits, 4 + 8 / 64 + 32 / (64 * 256));
  assert.equal(bits.toFixed(3), '4.127');
});

test('every value gets the nearest level, also in a short last block and an odd count', () => {
  const values = weights(64 * 300 + 37, 2);
  const matrix = quantizeNf4(values, [values.length]);
  assert.equal(matrix.codes.length, Math.ceil(values.length / 2));
  assert.equal(matrix.absmaxCodes.length, 301);
  assert.equal(matrix.absmax2.length, 2);
  for (const [i, value] of values.entries()) {
    const block = values.subarray(i - (i % 64), i - (i % 64) + 64);
    const absmax = block.reduce((most, other) => Math.max(most, Math.abs(other)), 0);
    assert.equal(codeAt(matrix, i), plainCode(value, absmax), `value ${i}`);
  }
});

test('the second level moves a magnitude by at most half a step of the map', () => {
  const values = weights(64 * 700, 3);
  const expanded = expandAbsmax(quantizeNf4(values, [700, 64]));
  for (let block = 0; block < 700; block++) {
    const absmax = values
      .subarray(block * 64, (block + 1) * 64)
      .reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const start = block - (block % 256);
    const group = Array.from({ length: Math.min(256, 700 - start) }, (_, i) =>
      Math.max(...values.subarray((start + i) * 64, (start + i + 1) * 64).map(Math.abs)),
    );
    const spread = Math.max(...group) - Math.min(...group);
    assert(Math.abs(expanded[block]! - absmax) <= 0.0071 * spread, `block ${block}`);
  }
});

test('zeros stay zeros, also in blocks without anything else', () => {
  const values = new Float32Array(192);
  values[70] = 2;
  values[71] = -2;
  const found = dequantizeNf4(quantizeNf4(values, [3, 64]));
  found.forEach((value, i) => assert.equal(value === 0, values[i] === 0, `value ${i}`));
  assert.deepEqual(
    dequantizeNf4(quantizeNf4(new Float32Array(65), [65])).every((value) => value === 0),
    true,
  );
});

test('a value that is not finite, and a wrong shape, are refused', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const values = new Float32Array(128);
    values[100] = bad;
    assert.throws(
      () => quantizeNf4(values, [128]),
      new AssertionError('a value in [64, 128) is not finite, so it cannot be quantized'),
    );
  }
  assert.throws(() => quantizeNf4(new Float32Array(5), [2, 2]), /5 values are not \[2, 2\]/);
});
