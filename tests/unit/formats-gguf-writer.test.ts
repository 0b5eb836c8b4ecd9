// What gguf-writer.ts and float-encoding.ts write, read again by the readers; rounding is the types' own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesSource } from '../../src/formats/byte-source.js';
import { encodedBytes, encodeFloats, firstBeyond } from '../../src/formats/float-encoding.js';
import { bfloat16ToFloat32 } from '../../src/formats/float16.js';
import { dequantize } from '../../src/formats/ggml-blocks.js';
import { readGguf, readGgufTensor } from '../../src/formats/gguf.js';
import { ggufHeader } from '../../src/formats/gguf-writer.js';
import { seededRandom } from '../helpers/adapter-fixtures.js';

test('a header and its tensors are read as they were written', () => {
  const metadata = {
    'general.architecture': { type: 'string', value: 'llama é' },
    'a.flag': { type: 'bool', value: true },
    'a.count': { type: 'u32', value: 4_000_000_000 },
    'a.ratio': { type: 'f32', value: 0.5 },
    'a.names': { type: 'strings', value: ['', 'Ġthe'] },
    'a.types': { type: 'i32s', value: [1, -3] },
    'a.scores': { type: 'f32s', value: [-1, 0.25] },
  } as const;
  const tensors = [
    { name: 'norm', type: 'F32', shape: [3] },
    { name: 'w', type: 'F16', shape: [2, 5] },
  ] as const;
  const header = ggufHeader(metadata, tensors);
  const file = new Uint8Array(header.size);
  file.set(header.bytes);
  file.set(encodeFloats('F32', Float32Array.of(1, 2, 3)), header.offsets[0]);
  file.set(
    encodeFloats(
      'F16',
      Float32Array.from({ length: 10 }, (_, i) => i / 8),
    ),
    header.offsets[1],
  );
  const source = bytesSource('x.gguf', file);
  const read = readGguf(source);
  const plain = Object.entries(metadata).map(([key, { value }]) => [key, value]);
  assert.deepEqual(Object.fromEntries(read.metadata), Object.fromEntries(plain));
  const values = [...read.tensors.values()].map((tensor) => {
    const { type, bytes } = readGgufTensor(source, tensor);
    return [
      tensor.name,
      tensor.shape,
      [
        ...dequantize(
          type,
          bytes,
          tensor.shape.reduce((a, b) => a * b),
        ),
      ],
    ];
  });
  assert.deepEqual(values, [
    ['norm', [3], [1, 2, 3]],
    ['w', [2, 5], [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1.125]],
  ]);
});

test('a row that is no whole number of blocks is a bug of the caller', () => {
  assert.throws(() => ggufHeader({}, [{ name: 'w', type: 'Q8_0', shape: [2, 33] }]), /rows of 33/);
});

test('bfloat16 rounds to nearest, ties to even', () => {
  const ulp = 2 ** -7;
  const values = Float32Array.of(1 + ulp / 2, 1 + ulp * 1.5, 1 + ulp * 0.51, -3, 2 ** -130);
  const read = bfloat16ToFloat32(encodeFloats('BF16', values));
  assert.deepEqual([...read], [1, 1 + 2 * ulp, 1 + ulp, -3, 2 ** -130]);
});

test('Q8_0 is as near as its codes allow, and exact on what it gave itself', () => {
  const random = seededRandom(3);
  const values = Float32Array.from({ length: 320 }, (_, i) => random() * (i < 32 ? 0 : 10 ** (i % 5)));
  const bytes = encodeFloats('Q8_0', values);
  assert.equal(bytes.length, encodedBytes('Q8_0', 320));
  const read = dequantize('Q8_0', bytes, 320);
  for (let block = 0; block < 320; block += 32) {
    const largest = Math.max(...values.subarray(block, block + 32).map(Math.abs));
    for (let k = block; k < block + 32; k++)
      // Half a step of the scale, and what the scale loses as an f16.
      assert(
        Math.abs(read[k]! - values[k]!) <= largest * (0.5 / 127 + 2 ** -11),
        `${values[k]} -> ${read[k]}`,
      );
  }
  assert.deepEqual(encodeFloats('Q8_0', read).length, bytes.length);
  assert.deepEqual(
    [...read.subarray(0, 32)],
    Array.from({ length: 32 }, () => 0),
  );
});

test('the first value that a type would make infinite is found', () => {
  const cases = [
    ['F16', 65_519, 65_520],
    ['BF16', 2 ** 127, 3.4e38],
    ['F32', 3.4e38, Infinity],
    ['Q8_0', 65_519 * 127, 65_520 * 127],
  ] as const;
  for (const [type, held, beyond] of cases) {
    assert.equal(firstBeyond(type, Float32Array.of(held, -held)), -1, type);
    assert.equal(firstBeyond(type, Float32Array.of(held, -beyond)), 1, type);
    assert.equal(firstBeyond(type, Float32Array.of(NaN)), 0, type);
  }
});
