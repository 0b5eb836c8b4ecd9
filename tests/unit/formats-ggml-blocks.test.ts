// dequantize() against values worked out by hand and against llama.cpp's own Python package; toInt4/toInt8 against dequantize().
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { float32ToFloat16 } from '../../src/formats/float16.js';
import { dequantize, type RecodedMatrix, toInt4, toInt8 } from '../../src/formats/ggml-blocks.js';
import { type SupportedGgmlType, SUPPORTED_TYPES } from '../../src/formats/ggml-types.js';
import { seededRandom } from '../helpers/format-files.js';

/** Byte offsets of a block's f16 fields. */
const HALVES = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
} as const;
type Quantized = keyof typeof HALVES;
const INT4 = ['Q4_0', 'Q4_1', 'Q4_K'] as const;
const INT8 = ['Q5_0', 'Q5_1', 'Q8_0', 'Q5_K', 'Q6_K'] as const;

function half(value: number): [number, number] {
  const bits = float32ToFloat16(Float32Array.of(value))[0]!;
  return [bits & 255, bits >> 8];
}

function zeros(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}

function randomBlocks(type: Quantized, count: number, seed: number): Uint8Array {
  const { blockSize, blockBytes } = SUPPORTED_TYPES[type];
  const random = seededRandom(seed);
  const bytes = new Uint8Array((count / blockSize) * blockBytes).map(() => random() * 256);
  for (let at = 0; at < bytes.length; at += blockBytes)
    for (const offset of HALVES[type]) bytes.set(half((random() - 0.5) * 0.2), at + offset);
  return bytes;
}

/** The formula of MatrixEntry, in double precision. */
function decode(kind: 'int4' | 'int8', matrix: RecodedMatrix, rows: number, cols: number): Float64Array {
  const out = new Float64Array(rows * cols);
  for (let n = 0; n < rows; n++)
    for (let k = 0; k < cols; k++) {
      const i = n * cols + k;
      const code = kind === 'int4' ? (matrix.data[i >> 1]! >> (4 * (k & 1))) & 15 : matrix.data[i]!;
      const scale = matrix.scales[n * (cols / matrix.blockSize) + Math.floor(k / matrix.blockSize)]!;
      const minimum = matrix.minima?.data[n * (cols / 32) + Math.floor(k / 32)] ?? 0;
      out[i] = scale * (code - (kind === 'int4' ? 8 : 128)) + minimum;
    }
  return out;
}

/** Equal to 1e-6 of the largest value around (a sum of two near-opposite terms has no small relative error). */
function assertClose(actual: Float64Array, expected: Float32Array): void {
  assert.equal(actual.length, expected.length);
  for (let start = 0; start < expected.length; start += 32) {
    const largest = Math.max(...expected.subarray(start, start + 32).map(Math.abs));
    for (let i = start; i < start + 32; i++)
      assert.ok(
        Math.abs(actual[i]! - expected[i]!) <= 1e-6 * largest,
        `value ${i}: ${actual[i]} is not ${expected[i]}`,
      );
  }
}

test('Q4_0 keeps column j in a low nibble and column j + 16 in the high one', () => {
  const block = Uint8Array.from([...half(0.5), 0xf0, 0x19, ...zeros(13), 0x8c]);
  const values = dequantize('Q4_0', block, 32);
  assert.deepEqual([values[0], values[16]], [-4, 3.5]);
  assert.deepEqual([values[1], values[17]], [0.5, -3.5]);
  assert.deepEqual([values[15], values[31]], [2, 0]);
  assert.deepEqual([values[2], values[18]], [-4, -4]);
});

test('Q4_1 is scale times code plus minimum', () => {
  const block = Uint8Array.from([...half(0.25), ...half(-1), 0xf1, ...zeros(15)]);
  const values = dequantize('Q4_1', block, 32);
  assert.deepEqual([values[0], values[16], values[1]], [-0.75, 2.75, -1]);
});

test('Q5_0 and Q5_1 take their fifth bits from a bit mask by column', () => {
  const mask = [0b00000001, 0, 0b00000010, 0]; // columns 0 and 17
  const nibbles = [0x32, 0xf0, ...zeros(14)];
  const symmetric = dequantize('Q5_0', Uint8Array.from([...half(1), ...mask, ...nibbles]), 32);
  assert.deepEqual(
    [symmetric[0], symmetric[16], symmetric[1], symmetric[17], symmetric[2]],
    [2, -13, -16, 15, -16],
  );
  const shifted = dequantize('Q5_1', Uint8Array.from([...half(2), ...half(0.5), ...mask, ...nibbles]), 32);
  assert.deepEqual([shifted[0], shifted[16], shifted[1], shifted[17]], [36.5, 6.5, 0.5, 62.5]);
});

test('Q8_0 codes are signed bytes', () => {
  const values = dequantize('Q8_0', Uint8Array.from([...half(0.5), 0x80, 0xff, 0x7f, ...zeros(29)]), 32);
  assert.deepEqual([...values.subarray(0, 4)], [-64, -0.5, 63.5, 0]);
});

test('Q4_K unpacks its 6-bit scales and minima, in both halves', () => {
  // Pair 1: scale 63, minimum 1. Pair 6: scale 0x2b (low nibble b, upper bits 2), minimum 0x1c (low nibble c, upper bits 1).
  const scales = [0, 63, 0x80, 0, 0, 1, 0x40, 0, 0, 0, 0xcb, 0];
  const codes = zeros(128);
  codes[0] = 0x50; // columns 0 and 32
  codes[96] = 0x0f; // columns 192 and 224
  const values = dequantize('Q4_K', Uint8Array.from([...half(1), ...half(2), ...scales, ...codes]), 256);
  assert.equal(values[32], 63 * 5 - 2 * 1);
  assert.equal(values[33], -2);
  assert.equal(values[192], 0x2b * 15 - 2 * 0x1c);
  assert.equal(values[193], -2 * 0x1c);
  assert.deepEqual([values[0], values[224]], [0, 0]);
});

test('Q5_K adds a fifth bit from bit i of byte l for column 32 i + l', () => {
  const scales = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1];
  const upper = zeros(32);
  upper[3] = 0b10000010; // columns 35 and 227
  const codes = zeros(128);
  codes[3] = 0x20; // column 35 has 2
  const values = dequantize(
    'Q5_K',
    Uint8Array.from([...half(1), ...half(0), ...scales, ...upper, ...codes]),
    256,
  );
  assert.deepEqual([values[35], values[227], values[3], values[67]], [18, 16, 0, 0]);
});

test('Q6_K joins four and two bits, with a signed scale for each 16 columns', () => {
  const low = zeros(128);
  const high = zeros(64);
  const scales = Array.from({ length: 16 }, () => 1);
  low[0] = 0x70; // column 64 has low bits 7, column 0 has 0
  high[0] = 0b01_10_00_11; // columns 0, 32, 64, 96 have 3, 0, 2, 1
  low[64 + 32 + 20] = 0x0a; // second half: column 128 + 32 + 20 has 10
  scales[4] = 0xfe; // columns 64..79: -2
  scales[11] = 3; // columns 176..191
  const values = dequantize('Q6_K', Uint8Array.from([...low, ...high, ...scales, ...half(0.5)]), 256);
  assert.deepEqual(
    [values[0], values[32], values[64], values[96]],
    [0.5 * (48 - 32), 0.5 * -32, -2 * 0.5 * (39 - 32), 0.5 * (16 - 32)],
  );
  assert.equal(values[180], 3 * 0.5 * (10 - 32));
});

test('F32, F16 and BF16 are read as they are, wherever they begin', () => {
  const f32 = new Uint8Array(Float32Array.of(0, 1.5, -3).buffer); // [4, 12): unaligned below
  const shifted = new Uint8Array(13);
  shifted.set(f32, 1);
  assert.deepEqual([...dequantize('F32', shifted.subarray(1), 3)], [0, 1.5, -3]);
  assert.deepEqual(
    [...dequantize('F16', Uint8Array.from([7, ...half(1.5), ...half(-0.25)]).subarray(1), 2)],
    [1.5, -0.25],
  );
  assert.deepEqual([...dequantize('BF16', Uint8Array.of(0x80, 0x3f, 0x00, 0xc0), 2)], [1, -2]);
});

test('dequantize gives bit by bit what llama.cpp gives', () => {
  const path = join(import.meta.dirname, '..', 'golden', 'ggml-blocks.json');
  const golden: Record<Quantized, { bytes: string; values: string }> = JSON.parse(readFileSync(path, 'utf8'));
  for (const type of [...INT4, ...INT8]) {
    const { bytes, values } = golden[type];
    const actual = dequantize(type, Buffer.from(bytes, 'base64'), 512);
    assert.deepEqual(
      Buffer.from(actual.buffer).toString('base64'),
      values,
      `${type}; the golden file is made by tests/golden/make-ggml-blocks.py`,
    );
  }
});

for (const type of INT4)
  test(`toInt4 of ${type} is exact`, () => {
    const [rows, cols] = [6, 512];
    const bytes = randomBlocks(type, rows * cols, 11);
    const matrix = toInt4(type, bytes, rows, cols);
    assert.equal(matrix.data.length, (rows * cols) / 2);
    assert.equal(matrix.scales.length, (rows * cols) / 32);
    assert.equal(matrix.minima?.data.length, type === 'Q4_0' ? undefined : (rows * cols) / 32);
    assertClose(decode('int4', matrix, rows, cols), dequantize(type, bytes, rows * cols));
  });

for (const type of INT8)
  test(`toInt8 of ${type} is exact`, () => {
    const [rows, cols] = [6, 512];
    const bytes = randomBlocks(type, rows * cols, 12);
    const matrix = toInt8(type, bytes, rows, cols);
    assert.equal(matrix.blockSize, type === 'Q6_K' ? 16 : 32);
    assert.equal(matrix.data.length, rows * cols);
    assert.equal(matrix.scales.length, (rows * cols) / matrix.blockSize);
    const hasMinima = type === 'Q5_1' || type === 'Q5_K';
    assert.equal(matrix.minima?.data.length, hasMinima ? (rows * cols) / 32 : undefined);
    assertClose(decode('int8', matrix, rows, cols), dequantize(type, bytes, rows * cols));
  });

test('the packed layout, the scale and the minimum, spelled out for one block', () => {
  const block = Uint8Array.from([...half(0.25), ...half(-1), 0xf1, 0x02, ...zeros(14)]);
  const { data, scales, minima } = toInt4('Q4_1', block, 1, 32);
  assert.deepEqual([...data], [0x21, ...zeros(7), 0x0f, ...zeros(7)]); // columns 0, 1 and 16, 17
  assert.deepEqual([...scales], [0.25]);
  assert.deepEqual([...minima!.data], [-1 + 8 * 0.25]);
  const q8 = toInt8('Q8_0', Uint8Array.from([...half(0.5), 0x80, 0xff, 0x7f, ...zeros(29)]), 1, 32);
  assert.deepEqual([...q8.data.subarray(0, 4)], [0, 127, 255, 128]);
  assert.equal(q8.minima, null);
});

test('bytes that do not fit the shape are a broken invariant', () => {
  const refused = { name: 'AssertionError' };
  assert.throws(() => dequantize('Q4_0', new Uint8Array(17), 32), refused);
  assert.throws(() => toInt4('Q4_0', new Uint8Array(18), 2, 16), refused);
  assert.throws(() => toInt8('Q6_K', new Uint8Array(209), 1, 256), refused);
});

test('every supported type has values', () => {
  const types: SupportedGgmlType[] = ['F32', 'F16', 'BF16', ...INT4, ...INT8];
  assert.deepEqual(types.toSorted(), Object.keys(SUPPORTED_TYPES).toSorted());
  for (const type of types) {
    const { blockBytes, blockSize } = SUPPORTED_TYPES[type];
    assert.equal(dequantize(type, new Uint8Array(blockBytes), blockSize).length, blockSize);
  }
});
