// The safetensors reader and writer: golden bytes, round trips, and one test for each reason to refuse a file.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../../src/formats/safetensors.js';
import { Bytes, seededRandom } from '../helpers/format-files.js';

function fileOf(header: string, data: Uint8Array | number): Uint8Array {
  const json = Buffer.from(header);
  const body = typeof data === 'number' ? new Uint8Array(data) : data;
  return new Bytes().u64(json.length).raw(json).raw(body).done();
}

function read(bytes: Uint8Array) {
  return readSafetensorsHeader(bytesSource('a.safetensors', bytes));
}

function refuses(bytes: Uint8Array, message: RegExp): void {
  assert.throws(() => read(bytes), {
    name: 'GatewayError',
    code: 'invalid_file',
    param: 'a.safetensors',
    message,
  });
}

function valuesOf(dtype: string, bytes: Uint8Array, count: number): number[] {
  const source = bytesSource(
    'a.safetensors',
    fileOf(`{"t":{"dtype":"${dtype}","shape":[${count}],"data_offsets":[0,${bytes.length}]}}`, bytes),
  );
  return [...readTensorF32(source, readSafetensorsHeader(source).tensors.get('t')!)];
}

test('the writer gives exactly these bytes', () => {
  const file = writeSafetensors(new Map([['w', { shape: [2], data: Float32Array.of(1, -2) }]]), {
    format: 'pt',
  });
  const json = '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
  const expected = new Bytes()
    .u64(88)
    .raw(Buffer.from(json.padEnd(88)))
    .f32(1)
    .f32(-2)
    .done();
  assert.equal(json.length, 85);
  assert.deepEqual(file, expected);
});

test('what is written is read back, whatever the names and shapes', () => {
  const random = seededRandom(5);
  const tensors = new Map(
    ['b', 'a.weight', 'ünïcode "quoted"', '__proto__', '7', 'scalar', 'empty'].map((name, i) => {
      const shape = name === 'scalar' ? [] : name === 'empty' ? [0, 3] : [i + 1, 3];
      const count = shape.reduce((product, dim) => product * dim, 1);
      return [name, { shape, data: new Float32Array(count).map(() => random() - 0.5) }] as const;
    }),
  );
  const source = bytesSource('a.safetensors', writeSafetensors(tensors, { rank: '8' }));
  const header = readSafetensorsHeader(source);
  assert.deepEqual([...header.metadata], [['rank', '8']]);
  assert.deepEqual([...header.tensors.keys()].toSorted(), [...tensors.keys()].toSorted());
  for (const [name, { shape, data }] of tensors) {
    const tensor = header.tensors.get(name)!;
    assert.deepEqual(tensor.shape, shape);
    assert.deepEqual(readTensorF32(source, tensor), data);
  }
});

test('a file that PEFT wrote is read', () => {
  const path = join(
    import.meta.dirname,
    '../fixtures/adapters/llama-tied/lora-qv-r8/adapter_model.safetensors',
  );
  const source = bytesSource('adapter_model.safetensors', readFileSync(path));
  const { tensors, metadata } = readSafetensorsHeader(source);
  assert.equal(metadata.get('format'), 'pt');
  const a = tensors.get('base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight')!;
  assert.equal(a.dtype, 'F32');
  assert.equal(a.shape[0], 8);
  const values = readTensorF32(source, a);
  assert.equal(values.length, 8 * a.shape[1]!);
  assert.ok(values.every(Number.isFinite) && values.some((value) => value !== 0));
});

test('every dtype becomes f32', () => {
  const f64 = new Uint8Array(Float64Array.of(0.5, -1e300).buffer);
  assert.deepEqual(valuesOf('F64', f64, 2), [0.5, -Infinity]);
  assert.deepEqual(valuesOf('F32', new Uint8Array(Float32Array.of(0.1).buffer), 1), [Math.fround(0.1)]);
  assert.deepEqual(valuesOf('F16', Uint8Array.of(0x00, 0x3c, 0x01, 0x00), 2), [1, 2 ** -24]);
  assert.deepEqual(valuesOf('BF16', Uint8Array.of(0x80, 0x3f, 0x80, 0xff), 2), [1, -Infinity]);
  assert.deepEqual(valuesOf('I64', new Uint8Array(BigInt64Array.of(-3n, 2n ** 40n).buffer), 2), [
    -3,
    2 ** 40,
  ]);
  assert.deepEqual(valuesOf('U64', new Uint8Array(BigUint64Array.of(2n ** 63n).buffer), 1), [2 ** 63]);
  assert.deepEqual(valuesOf('I32', new Uint8Array(Int32Array.of(-7).buffer), 1), [-7]);
  assert.deepEqual(valuesOf('U32', new Uint8Array(Uint32Array.of(2 ** 31).buffer), 1), [2 ** 31]);
  assert.deepEqual(valuesOf('I16', Uint8Array.of(0xfe, 0xff), 1), [-2]);
  assert.deepEqual(valuesOf('U16', Uint8Array.of(0xfe, 0xff), 1), [65534]);
  assert.deepEqual(valuesOf('I8', Uint8Array.of(0xff), 1), [-1]);
  assert.deepEqual(valuesOf('U8', Uint8Array.of(0xff), 1), [255]);
  assert.deepEqual(valuesOf('BOOL', Uint8Array.of(1, 0), 2), [1, 0]);
});

test('the values are a copy of their own', () => {
  const file = writeSafetensors(new Map([['w', { shape: [1], data: Float32Array.of(4) }]]));
  const source = bytesSource('a.safetensors', Buffer.from(file));
  const values = readTensorF32(source, readSafetensorsHeader(source).tensors.get('w')!);
  values[0] = 9;
  const again = readTensorF32(source, readSafetensorsHeader(source).tensors.get('w')!);
  assert.deepEqual([...again], [4]);
});

test('8-bit floats are refused by name, when their values are asked for', () => {
  assert.throws(() => valuesOf('F8_E4M3', Uint8Array.of(0), 1), {
    code: 'invalid_file',
    message: /F8_E4M3, which is not supported; store it as F32, F16 or BF16/,
  });
});

test('a header that is too long, cut short or no JSON is refused', () => {
  refuses(new Uint8Array(7), /has 7 bytes; a safetensors file has at least 8/);
  refuses(new Bytes().u64(100_000_001).done(), /100000001 bytes, more than 100000000/);
  refuses(new Bytes().u64(2n ** 64n - 1n).done(), /18446744073709551615 bytes/);
  refuses(
    new Bytes().u64(9).raw(Buffer.from('{}')).done(),
    /Expected 9 bytes at offset 8, but the file has 10/,
  );
  refuses(fileOf('', 0), /does not begin with \{/);
  refuses(fileOf(' {}', 0), /does not begin with \{/);
  refuses(fileOf('{"a":', 0), /not valid JSON/);
  refuses(new Bytes().u64(2).u8(0x7b).u8(0xff).done(), /not valid UTF-8/);
});

test('a key that is there twice is refused, in whatever spelling', () => {
  const tensor = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}';
  refuses(fileOf(`{"a":${tensor},"a" : ${tensor}}`, 1), /the key "a" is there twice/);
  refuses(fileOf(`{"a":${tensor},"\\u0061":${tensor}}`, 1), /the key "a" is there twice/);
  refuses(
    fileOf('{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    /"dtype" is there twice/,
  );
  assert.deepEqual(read(fileOf('{"__metadata__":{"a":"\\"a\\":{","b":"a"}}', 0)).tensors.size, 0);
});

test('metadata other than strings are refused', () => {
  refuses(fileOf('{"__metadata__":[]}', 0), /__metadata__ to be an object/);
  refuses(fileOf('{"__metadata__":{"a":1}}', 0), /__metadata__.a to be a string, got number/);
});

test('a tensor that is not described right is refused by name', () => {
  const one = (dtype: string, shape: string, range: string) =>
    fileOf(`{"w":{"dtype":${dtype},"shape":${shape},"data_offsets":${range}}}`, 4);
  refuses(fileOf('{"w":3}', 0), /tensor `w`: Expected an object/);
  refuses(one('"Q4"', '[1]', '[0,4]'), /tensor `w`: Expected dtype to be one of F64, .*, got "Q4"/);
  refuses(one('"toString"', '[1]', '[0,4]'), /got "toString"/);
  refuses(one('"F32"', '[-1]', '[0,4]'), /Expected shape to be a list of sizes, got \[-1\]/);
  refuses(one('"F32"', '[1.5]', '[0,4]'), /Expected shape/);
  refuses(one('"F32"', '1', '[0,4]'), /Expected shape/);
  refuses(one('"F32"', '[1]', '[0]'), /Expected data_offsets to be \[begin, end\], got \[0\]/);
  refuses(one('"F32"', '[1]', '[4,0]'), /Expected data_offsets/);
  refuses(one('"F32"', '[2]', '[0,4]'), /F32 of shape \[2\] takes 8 bytes, its range has 4/);
  refuses(one('"F32"', '[4294967296,4294967296]', '[0,4]'), /beyond what a file can hold/);
  refuses(one('"F32"', '[9007199254740991,9007199254740991,0]', '[0,0]'), /beyond what a file can hold/);
});

test('holes, overlaps and a wrong end are refused', () => {
  const two = (first: string, second: string, size: number) =>
    fileOf(
      `{"a":{"dtype":"U8","shape":[2],"data_offsets":${first}},"b":{"dtype":"U8","shape":[2],"data_offsets":${second}}}`,
      size,
    );
  assert.equal(read(two('[2,4]', '[0,2]', 4)).tensors.size, 2);
  refuses(two('[0,2]', '[3,5]', 5), /tensor `b` begins at data offset 3, expected 2/);
  refuses(two('[0,2]', '[1,3]', 3), /tensor `b` begins at data offset 1, expected 2/);
  refuses(two('[1,3]', '[3,5]', 5), /tensor `a` begins at data offset 1, expected 0/);
  refuses(two('[0,2]', '[2,4]', 5), /describes \d+ bytes, the file has \d+/);
  refuses(two('[0,2]', '[2,4]', 3), /it may be cut short/);
});
