// The GGUF reader: values of every type, places of tensors, few reads, and one test for each reason to refuse a file.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ByteSource, bytesSource } from '../../src/formats/byte-source.js';
import { readGguf, readGgufTensor } from '../../src/formats/gguf.js';
import { type Bytes, type GgufParts, ggufFile } from '../helpers/format-files.js';

type Write = (bytes: Bytes) => Bytes;
const u32 =
  (value: number): Write =>
  (bytes) =>
    bytes.u32(4).u32(value);
const text =
  (value: string): Write =>
  (bytes) =>
    bytes.u32(8).text(value);

function read(file: Uint8Array) {
  return readGguf(bytesSource('m.gguf', file));
}

function refuses(parts: GgufParts | Uint8Array, message: RegExp): void {
  const file = parts instanceof Uint8Array ? parts : ggufFile(parts);
  assert.throws(() => read(file), { name: 'GatewayError', code: 'invalid_file', param: 'm.gguf', message });
}

/** A source that counts what is read from it. */
function countingSource(file: Uint8Array): ByteSource & { bytesRead: number; numReads: number } {
  const inner = bytesSource('m.gguf', file);
  return {
    name: inner.name,
    size: inner.size,
    bytesRead: 0,
    numReads: 0,
    read(offset, length) {
      this.bytesRead += length;
      this.numReads += 1;
      return inner.read(offset, length);
    },
  };
}

test('values of every type, in versions 2 and 3', () => {
  const pairs: [string, Write][] = [
    ['u8', (b) => b.u32(0).u8(255)],
    ['i8', (b) => b.u32(1).u8(255)],
    ['u16', (b) => b.u32(2).u16(65535)],
    ['i16', (b) => b.u32(3).u16(65534)],
    ['u32', u32(4294967295)],
    ['i32', (b) => b.u32(5).u32(4294967295)],
    ['f32', (b) => b.u32(6).f32(0.5)],
    ['bool', (b) => b.u32(7).u8(1)],
    ['string', text('héllo')],
    ['strings', (b) => b.u32(9).u32(8).u64(3).text('a').text('').text('\ufffd')],
    ['nested', (b) => b.u32(9).u32(9).u64(2).u32(4).u64(1).u32(7).u32(7).u64(2).u8(0).u8(1)],
    ['u64', (b) => b.u32(10).u64(2 ** 53 - 1)],
    ['i64', (b) => b.u32(11).u64(2n ** 64n - 5n)],
    ['f64', (b) => b.u32(12).raw(new Uint8Array(Float64Array.of(1e-300).buffer))],
  ];
  for (const version of [2, 3] as const) {
    const file = read(ggufFile({ version, pairs }));
    assert.equal(file.version, version);
    assert.deepEqual(Object.fromEntries(file.metadata), {
      u8: 255,
      i8: -1,
      u16: 65535,
      i16: -2,
      u32: 4294967295,
      i32: -1,
      f32: 0.5,
      bool: true,
      string: 'héllo',
      strings: ['a', '', '\ufffd'],
      nested: [[7], [false, true]],
      u64: 2 ** 53 - 1,
      i64: -5,
      f64: 1e-300,
    });
  }
});

test('tensors have row-major shapes and absolute places', () => {
  const bytes = ggufFile({
    pairs: [['general.alignment', u32(64)]],
    tensors: [
      { name: 'w', ne: [64, 3], type: 2, offset: 64 },
      { name: 'n', ne: [5], type: 0, offset: 0 },
    ],
    data: new Uint8Array(64 + 108).fill(1, 0, 20).fill(2, 64),
    alignment: 64,
  });
  const source = bytesSource('m.gguf', bytes);
  const { tensors } = readGguf(source);
  const dataStart = bytes.length - 172;
  assert.equal(dataStart % 64, 0);
  assert.deepEqual(
    [...tensors.values()],
    [
      { name: 'w', type: 'Q4_0', shape: [3, 64], offset: dataStart + 64, length: 3 * 2 * 18 },
      { name: 'n', type: 'F32', shape: [5], offset: dataStart, length: 20 },
    ],
  );
  assert.deepEqual(readGgufTensor(source, tensors.get('w')!), {
    type: 'Q4_0',
    bytes: new Uint8Array(108).fill(2),
  });
  assert.deepEqual(readGgufTensor(source, tensors.get('n')!), {
    type: 'F32',
    bytes: new Uint8Array(20).fill(1),
  });
});

test('an unsupported type is listed, and refused by name when its data are asked for', () => {
  const file = ggufFile({
    tensors: [{ name: 'w', ne: [256], type: 10, offset: 0 }],
    data: new Uint8Array(84),
  });
  const source = bytesSource('m.gguf', file);
  const tensor = readGguf(source).tensors.get('w')!;
  assert.equal(tensor.type, 'Q2_K');
  assert.throws(() => readGgufTensor(source, tensor), {
    code: 'unsupported_model',
    message:
      /tensor `w` has type Q2_K; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K/,
  });
});

test('a large vocabulary takes a few growing reads, and the data none', () => {
  const tokens = Array.from({ length: 150_000 }, (_, i) => `tök${i}`);
  const list: Write = (bytes) => bytes.u32(9).u32(8).u64(tokens.length).raw(encodeAll(tokens));
  const data = new Uint8Array(32 * 1024 * 1024);
  const file = ggufFile({
    pairs: [
      ['tokens', list],
      ['after', text('x')],
    ],
    tensors: [{ name: 'w', ne: [data.length / 4], type: 0, offset: 0 }],
    data,
  });
  const source = countingSource(file);
  const { metadata } = readGguf(source);
  assert.deepEqual(metadata.get('tokens'), tokens);
  assert.equal(metadata.get('after'), 'x');
  const headerBytes = file.length - data.length;
  assert.ok(source.numReads <= 10, `${source.numReads} reads`);
  assert.ok(source.bytesRead < 3 * headerBytes, `${source.bytesRead} bytes for a header of ${headerBytes}`);
});

function encodeAll(tokens: readonly string[]): Uint8Array {
  const parts = tokens.map((token) => {
    const part = Buffer.alloc(8 + Buffer.byteLength(token));
    part.writeBigUInt64LE(BigInt(part.length - 8));
    part.write(token, 8);
    return part;
  });
  return Buffer.concat(parts);
}

test('other files, versions and byte orders are refused by name', () => {
  const head = (magic: string, version: number, bigEndian = false) => {
    const file = ggufFile({ version }).slice();
    file.set(Buffer.from(magic));
    if (bigEndian) file.set([0, 0, 0, 3], 4);
    return file;
  };
  refuses(head('GGML', 3), /does not begin with GGUF/);
  refuses(head('GGUF', 1), /GGUF version 1 is not supported; supported are 2 and 3/);
  refuses(head('GGUF', 3, true), /big-endian/);
  refuses(new Uint8Array(3), /Expected 4 more bytes of header, 3 are left/);
});

test('counts and lengths beyond the file are refused before anything is allocated', () => {
  const counts = (numTensors: bigint, numPairs: bigint) => {
    const file = ggufFile({}).slice();
    new DataView(file.buffer).setBigUint64(8, numTensors, true);
    new DataView(file.buffer).setBigUint64(16, numPairs, true);
    return file;
  };
  refuses(counts(0n, 2n ** 40n), /1099511627776 metadata pairs do not fit/);
  refuses(counts(2n ** 40n, 0n), /1099511627776 tensors do not fit/);
  refuses(counts(0n, 2n ** 64n - 1n), /beyond 2\^53 - 1/);
  refuses(
    {
      pairs: [
        [
          'a',
          (b) =>
            b
              .u32(9)
              .u32(0)
              .u64(2 ** 23),
        ],
      ],
    },
    /8388608 array elements do not fit/,
  );
  refuses(
    {
      pairs: [
        [
          'a',
          (b) =>
            b
              .u32(9)
              .u32(0)
              .u64(2 ** 25),
        ],
      ],
    },
    /33554432 elements, more than 16777216/,
  );
  refuses({ pairs: [['a', (b) => b.u32(8).u64(2 ** 40)]] }, /Expected 1099511627776 more bytes/);
});

test('bad values are refused with their place', () => {
  refuses({ pairs: [['a', (b) => b.u32(13)]] }, /at byte \d+: 13 is not the number of a value type/);
  refuses({ pairs: [['a', (b) => b.u32(7).u8(2)]] }, /Expected a boolean to be 0 or 1, got 2/);
  refuses({ pairs: [['a', (b) => b.u32(10).u64(2n ** 53n)]] }, /9007199254740992 is beyond 2\^53 - 1/);
  refuses(
    { pairs: [['a', (b) => b.u32(11).u64(2n ** 63n)]] },
    /-9223372036854775000 is beyond|is beyond 2\^53/,
  );
  refuses({ pairs: [['a', (b) => b.u32(8).u64(1).u8(0xff)]] }, /not valid UTF-8/);
  const deep: Write = (b) => {
    b.u32(9);
    for (let i = 0; i < 5; i++) b.u32(9).u64(1);
    return b.raw(new Uint8Array(64));
  };
  refuses({ pairs: [['a', deep]] }, /nested more than 4 deep/);
});

test('a key or a tensor that is there twice is refused', () => {
  refuses({ pairs: [['a', u32(1)], ['a', u32(1)]] }, /metadata key `a` is there twice/); // prettier-ignore
  const tensor = { name: 'w', ne: [8], type: 0, offset: 0 };
  refuses({ tensors: [tensor, tensor], data: new Uint8Array(64) }, /tensor `w` is there twice/);
});

test('alignment must be a power of two', () => {
  for (const value of [0, 3, 131072])
    refuses(
      { pairs: [['general.alignment', u32(value)]] },
      new RegExp(`power of two up to 65536, got ${value}`),
    );
  refuses({ pairs: [['general.alignment', text('32')]] }, /power of two/);
});

test('tensors that cannot be are refused by name', () => {
  const one = (ne: readonly (number | bigint)[], type: number, offset = 0): GgufParts => ({
    tensors: [{ name: 'w', ne, type, offset }],
    data: new Uint8Array(64),
  });
  refuses(one([1, 1, 1, 1, 1], 0), /tensor `w` has 5 dimensions, more than 4/);
  refuses(one([8], 4), /tensor `w` has the unknown type number 4/);
  refuses(one([33], 2), /tensor `w` is Q4_0 in rows of 33, which is no multiple of its block of 32/);
  refuses(one([8, 0], 0), /impossible shape \[0, 8\]/);
  refuses(one([2 ** 40, 2 ** 40], 0), /impossible shape/);
  refuses(one([8], 0, 4), /begins at data offset 4, which is no multiple of 32/);
  refuses(one([32], 0), /tensor `w` ends at byte \d+, the file has \d+; it is cut short/);
  refuses(
    {
      tensors: [
        { name: 'a', ne: [16], type: 0, offset: 0 },
        { name: 'b', ne: [8], type: 0, offset: 32 },
      ],
      data: new Uint8Array(64),
    },
    /tensor `b` overlaps the one before it/,
  );
});

test('a source refuses what lies outside it', () => {
  const source = bytesSource('m.gguf', new Uint8Array(10));
  assert.equal(source.read(10, 0).length, 0);
  assert.equal(source.read(2, 8).length, 8);
  for (const [offset, length] of [
    [3, 8],
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [NaN, 1],
    [2 ** 53, 1],
  ] as const)
    // prettier-ignore
    assert.throws(() => source.read(offset, length), {
      code: 'invalid_file',
      message: new RegExp(`^m.gguf: Expected ${length} bytes at offset ${offset}, but the file has 10 bytes`),
    });
});
