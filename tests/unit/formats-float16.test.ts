// The 16-bit floats: every f16 there and back, and the borders of rounding.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float16Value,
  float32ToFloat16,
} from '../../src/formats/float16.js';

test('f16 values at the borders', () => {
  const expected: [number, number][] = [
    [0x0000, 0],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x3c00, 1],
    [0x7bff, 65504],
    [0x7c00, Infinity],
    [0xc000, -2],
    [0xfc00, -Infinity],
  ];
  for (const [bits, value] of expected) assert.equal(float16Value(bits), value, bits.toString(16));
  assert.ok(Object.is(float16Value(0x8000), -0));
  assert.ok(Number.isNaN(float16Value(0x7e01)));
});

test('every f16 that is a number survives f32 and back', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const back = float32ToFloat16(float16ToFloat32(new Uint8Array(bits.buffer)));
  for (let i = 0; i < 65536; i++) {
    if (Number.isNaN(float16Value(i))) assert.equal(back[i]! & 0x7e00, 0x7e00);
    else assert.equal(back[i], i);
  }
});

test('f32 to f16 rounds to nearest, ties to even', () => {
  const expected: [number, number][] = [
    [1 + 2 ** -11, 0x3c00], // halfway between 1 and the next: even below
    [1 + 3 * 2 ** -11, 0x3c02], // halfway: even above
    [1 + 2 ** -11 + 2 ** -20, 0x3c01],
    [2047 / 1024 + 2 ** -11, 0x4000], // carries into the exponent
    [65519, 0x7bff],
    [65520, 0x7c00],
    [1e30, 0x7c00],
    [-65520, 0xfc00],
    [2 ** -25, 0x0000], // halfway to the least subnormal
    [2 ** -25 * 1.001, 0x0001],
    [3 * 2 ** -25, 0x0002], // halfway: even above
    [1023.5 * 2 ** -24, 0x0400], // the largest subnormal and a half: the least normal
    [1e-30, 0],
  ];
  const bits = float32ToFloat16(Float32Array.from(expected, ([value]) => value));
  expected.forEach(([value, code], i) => assert.equal(bits[i], code, String(value)));
  assert.equal(float32ToFloat16(Float32Array.of(-0))[0], 0x8000);
  assert.equal(float32ToFloat16(Float32Array.of(NaN))[0]! & 0x7fff, 0x7e00);
});

test('bf16 is the upper half of an f32, at any alignment', () => {
  const bytes = Uint8Array.of(9, 0x49, 0x40, 0x80, 0xbf, 0x01, 0x00);
  const view = new Uint32Array(1);
  view[0] = 0x40490000;
  assert.deepEqual(
    [...bfloat16ToFloat32(bytes.subarray(1))],
    [new Float32Array(view.buffer)[0], -1, 2 ** -133],
  );
});
