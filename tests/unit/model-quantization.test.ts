// Rounding to int4 and int8 codes: exact on representable values, better than plain rounding otherwise, padding kept neutral.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { quantizeInt4, quantizeInt8, type QuantizedRows, widenInt4 } from '../../src/model/quantization.js';
import { seededRandom } from '../helpers/format-files.js';

/** Every code with its column, padding included: [rows][blocks * 32]. */
function codesOf({ kind, data }: QuantizedRows, rows: number): number[][] {
  const flat = kind === 'int8' ? [...data] : [...data].flatMap((byte) => [byte & 15, byte >> 4]);
  const width = flat.length / rows;
  return Array.from({ length: rows }, (_, row) => flat.slice(row * width, (row + 1) * width));
}

function valuesOf(quantized: QuantizedRows, rows: number, cols: number): number[] {
  const zero = quantized.kind === 'int8' ? 128 : 8;
  return codesOf(quantized, rows).flatMap((codes, row) =>
    codes.slice(0, cols).map((code, k) => {
      const block = (row * codes.length) / 32 + Math.floor(k / 32);
      return quantized.scales[block]! * (code - zero) + (quantized.minima?.data[block] ?? 0);
    }),
  );
}

/** Sum of three uniforms, heavier in the middle as weights are. */
function weights(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 0.05 * (random() + random() + random() - 1.4));
}

function squaredError(values: ArrayLike<number>, rounded: readonly number[]): number {
  return rounded.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0);
}

/** Rounding between each block's minimum and maximum, as Q4_1 files are made. */
function minMaxRounded(values: Float32Array): number[] {
  const out: number[] = [];
  for (let from = 0; from < values.length; from += 32) {
    const block = [...values.subarray(from, from + 32)];
    const min = Math.min(...block);
    const scale = (Math.max(...block) - min) / 15;
    out.push(...block.map((value) => Math.round((value - min) / scale) * scale + min));
  }
  return out;
}

describe('quantizeInt4', () => {
  it('finds values exactly that lie on a grid of 16 steps', () => {
    const steps = Array.from({ length: 32 }, (_, k) => (k * 7) % 16);
    const values = Float32Array.from(steps, (step) => -0.75 + 0.125 * step);
    const quantized = quantizeInt4(values, 1, 32);
    assert.deepEqual(codesOf(quantized, 1), [steps]);
    assert.ok(Math.abs(quantized.scales[0]! - 0.125) < 1e-7);
    assert.ok(Math.abs(quantized.minima!.data[0]! - 0.25) < 1e-7); // the value of code 8
    assert.equal(quantized.minima!.blockSize, 32);
  });

  it('has a smaller error than rounding between minimum and maximum', () => {
    const values = weights(64 * 96, 1);
    const searched = squaredError(values, valuesOf(quantizeInt4(values, 64, 96), 64, 96));
    const plain = squaredError(values, minMaxRounded(values));
    assert.ok(searched < 0.9 * plain, `${searched} against ${plain}`);
  });

  it('errs by at most 1.6 steps, where an outlier is clipped', () => {
    const values = weights(32 * 64, 2);
    const quantized = quantizeInt4(values, 32, 64);
    valuesOf(quantized, 32, 64).forEach((value, i) => {
      const step = Math.abs(quantized.scales[Math.floor(i / 32)]!);
      assert.ok(Math.abs(value - values[i]!) <= 1.6 * step, `[${i}] ${value} for ${values[i]}, step ${step}`);
    });
  });

  it('leaves minima out on request, and stays better than a scale from the largest value', () => {
    const values = weights(64 * 64, 3);
    const quantized = quantizeInt4(values, 64, 64, { minima: false });
    assert.equal(quantized.minima, null);
    const plain = [...values].map((value, i) => {
      const block = values.subarray(i - (i % 32), i - (i % 32) + 32);
      const scale = Math.max(...block.map(Math.abs)) / 7;
      return Math.round(value / scale) * scale;
    });
    const searched = squaredError(values, valuesOf(quantized, 64, 64));
    assert.ok(searched < 0.9 * squaredError(values, plain), `${searched}`);
  });

  it('keeps constant and zero blocks exactly', () => {
    const values = new Float32Array(64).fill(0.3, 32);
    for (const quantized of [quantizeInt4(values, 2, 32), quantizeInt8(values, 2, 32)])
      valuesOf(quantized, 2, 32).forEach((value, i) =>
        assert.ok(Math.abs(value - values[i]!) < 1e-7, `${quantized.kind} [${i}] ${value}`),
      );
    assert.deepEqual([...quantizeInt4(values, 2, 32).minima!.data], [0, Math.fround(0.3)]);
  });

  it('pads the last block of each row with the zero code and ignores the padding in the fit', () => {
    const values = weights(3 * 40, 4).map((value) => value + 1);
    const quantized = quantizeInt4(values, 3, 40);
    assert.equal(quantized.data.length, 3 * 2 * 16);
    for (const codes of codesOf(quantized, 3)) assert.deepEqual(codes.slice(40), Array(24).fill(8));
    valuesOf(quantized, 3, 40).forEach((value, i) => assert.ok(Math.abs(value - values[i]!) < 0.01));
  });
});

describe('quantizeInt8', () => {
  it('scales by the largest magnitude of the block', () => {
    const values = new Float32Array(32);
    values.set([-2, 1, 0.5, 2]);
    const quantized = quantizeInt8(values, 1, 32);
    assert.equal(quantized.scales[0], Math.fround(2 / 127));
    assert.deepEqual(codesOf(quantized, 1)[0]!.slice(0, 5), [1, 192, 160, 255, 128]);
    assert.equal(quantized.minima, null);
  });

  it('errs by at most half a step, and pads with the zero code', () => {
    const values = weights(5 * 40, 5);
    const quantized = quantizeInt8(values, 5, 40);
    for (const codes of codesOf(quantized, 5)) assert.deepEqual(codes.slice(40), Array(24).fill(128));
    valuesOf(quantized, 5, 40).forEach((value, i) => {
      const scale = quantized.scales[2 * Math.floor(i / 40) + (i % 40 < 32 ? 0 : 1)]!;
      assert.ok(Math.abs(value - values[i]!) <= 0.5001 * scale);
    });
  });
});

describe('widenInt4', () => {
  it('keeps every value', () => {
    const quantized = quantizeInt4(weights(4 * 64, 6), 4, 64);
    const wide = widenInt4(quantized);
    assert.equal(wide.kind, 'int8');
    assert.deepEqual(valuesOf(wide, 4, 64), valuesOf(quantized, 4, 64));
  });
});
