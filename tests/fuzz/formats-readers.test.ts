// Damaged GGUF and safetensors files: the result is a value or a GatewayError, never another exception, and what is
// allocated stays in proportion to the file. Seeded, so that a failure names the case that repeats it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { dequantize } from '../../src/formats/ggml-blocks.js';
import { readGguf, readGgufTensor } from '../../src/formats/gguf.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../../src/formats/safetensors.js';
import { damaged, ggufFile, seededRandom } from '../helpers/format-files.js';

const CASES = 4000;

/** Runs the reader over damaged copies; how many were read and how many refused. */
function fuzz(
  file: Uint8Array,
  seed: number,
  read: (bytes: Uint8Array) => void,
): { read: number; refused: number } {
  const random = seededRandom(seed);
  const outcomes = { read: 0, refused: 0 };
  for (let i = 0; i < CASES; i++) {
    const bytes = damaged(file, random);
    try {
      read(bytes);
      outcomes.read += 1;
    } catch (error) {
      assert.ok(error instanceof GatewayError, `case ${i} of seed ${seed}: ${String(error)}`);
      assert.ok(error.message.length < 2000, `case ${i}: a message of ${error.message.length} characters`);
      outcomes.refused += 1;
    }
  }
  return outcomes;
}

function smallGguf(): Uint8Array {
  return ggufFile({
    pairs: [
      ['general.architecture', (b) => b.u32(8).text('llama')],
      ['general.alignment', (b) => b.u32(4).u32(32)],
      ['llama.block_count', (b) => b.u32(4).u32(2)],
      ['rope', (b) => b.u32(6).f32(10000)],
      ['big', (b) => b.u32(10).u64(123456789)],
      ['flag', (b) => b.u32(7).u8(1)],
      ['tokens', (b) => b.u32(9).u32(8).u64(3).text('a').text('bc').text('ü')],
      ['types', (b) => b.u32(9).u32(5).u64(3).u32(1).u32(1).u32(3)],
      ['nested', (b) => b.u32(9).u32(9).u64(1).u32(0).u64(2).u8(1).u8(2)],
    ],
    tensors: [
      { name: 'norm', ne: [8], type: 0, offset: 0 },
      { name: 'q4', ne: [64, 2], type: 3, offset: 32 },
      { name: 'q6', ne: [256], type: 14, offset: 128 },
    ],
    data: new Uint8Array(128 + 210).fill(7),
  });
}

test('damaged GGUF files', () => {
  const outcomes = fuzz(smallGguf(), 1, (bytes) => {
    const source = bytesSource('m.gguf', bytes);
    for (const tensor of readGguf(source).tensors.values()) {
      const count = tensor.shape.reduce((product, dim) => product * dim, 1);
      assert.ok(count <= 8 * bytes.length, `${count} values in ${bytes.length} bytes`);
      const { type, bytes: data } = readGgufTensor(source, tensor);
      assert.equal(dequantize(type, data, count).length, count);
    }
  });
  assert.ok(outcomes.read > 100 && outcomes.refused > 1000, JSON.stringify(outcomes));
});

test('damaged safetensors files', () => {
  const file = writeSafetensors(
    new Map([
      ['base_model.model.a.lora_A.weight', { shape: [2, 3], data: new Float32Array(6).fill(1) }],
      ['base_model.model.a.lora_B.weight', { shape: [3, 2], data: new Float32Array(6).fill(2) }],
      ['empty', { shape: [0], data: new Float32Array(0) }],
    ]),
    { format: 'pt' },
  );
  const outcomes = fuzz(file, 2, (bytes) => {
    const source = bytesSource('a.safetensors', bytes);
    for (const tensor of readSafetensorsHeader(source).tensors.values())
      assert.ok(readTensorF32(source, tensor).length <= bytes.length);
  });
  assert.ok(outcomes.read > 100 && outcomes.refused > 1000, JSON.stringify(outcomes));
});

test('noise behind a valid beginning', () => {
  const random = seededRandom(3);
  for (let i = 0; i < CASES; i++) {
    const bytes = new Uint8Array(16 + Math.floor(random() * 200)).map(() => random() * 256);
    if (random() < 0.5) bytes.set([0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0]);
    else bytes.set([bytes.length - 8, 0, 0, 0, 0, 0, 0, 0, 0x7b]);
    const refused = (error: unknown) => error instanceof GatewayError;
    assert.throws(() => readSafetensorsHeader(bytesSource('a.safetensors', bytes)), refused, `case ${i}`);
    assert.throws(() => readGguf(bytesSource('m.gguf', bytes)), refused, `case ${i}`);
  }
});
