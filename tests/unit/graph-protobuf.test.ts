// The protocol-buffer writer against bytes from the encoding's documentation, and the reader against the writer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssertionError } from '../../src/errors.js';
import { dropFields, visitFields } from '../../src/graph/protobuf-reader.js';
import { MessageWriter } from '../../src/graph/protobuf.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function fields(message: Uint8Array): [number, string][] {
  const found: [number, string][] = [];
  visitFields(message, (field, value) => found.push([field, hex(value)]));
  return found;
}

test("the documentation's examples", () => {
  assert.equal(hex(new MessageWriter().varint(1, 150).finish()), '089601');
  assert.equal(hex(new MessageWriter().string(2, 'testing').finish()), '120774657374696e67');
  assert.equal(
    hex(new MessageWriter().message(3, new MessageWriter().varint(1, 150)).finish()),
    '1a03089601',
  );
});

test('numbers: zero, the edges of a byte, negative as 64-bit two’s complement, big', () => {
  const encoded = (value: number | bigint): string => hex(new MessageWriter().varint(1, value).finish());
  assert.equal(encoded(0), '0800');
  assert.equal(encoded(127), '087f');
  assert.equal(encoded(128), '088001');
  assert.equal(encoded(-1), '08ffffffffffffffffff01');
  assert.equal(encoded(-2), '08feffffffffffffffff01');
  assert.equal(encoded(2 ** 40), '08808080808020');
  assert.equal(encoded(2n ** 63n - 1n), '08ffffffffffffffff7f');
});

test('floats are four bytes, little end first; fields beyond 15 take two bytes', () => {
  assert.equal(hex(new MessageWriter().float(2, 1.5).finish()), '150000c03f');
  assert.equal(hex(new MessageWriter().varint(20, 7).finish()), 'a00107');
});

test('text is UTF-8, its length in bytes; empty values are written', () => {
  assert.equal(hex(new MessageWriter().string(1, 'é').finish()), '0a02c3a9');
  assert.equal(hex(new MessageWriter().string(1, '').bytes(2, new Uint8Array()).finish()), '0a001200');
  assert.equal(hex(new MessageWriter().finish()), '');
});

test('the reader finds what the writer wrote, in order, and passes over numbers', () => {
  const message = new MessageWriter()
    .varint(1, -1)
    .string(2, 'two')
    .float(3, 0.5)
    .message(40, new MessageWriter().string(1, 'x').varint(2, 300))
    .varint(3000, 5)
    .string(2, 'again')
    .bytes(5, new Uint8Array(200).fill(1))
    .finish();
  assert.deepEqual(fields(message), [
    [2, hex(Buffer.from('two'))],
    [40, '0a017810ac02'],
    [2, hex(Buffer.from('again'))],
    [5, '01'.repeat(200)],
  ]);
  const fixed64 = Buffer.from('0901020304050607081201ff', 'hex');
  assert.deepEqual(fields(fixed64), [[2, 'ff']]);
});

test('dropFields leaves every other byte as it was', () => {
  const message = new MessageWriter()
    .varint(1, 9)
    .string(2, 'a')
    .float(3, 1)
    .string(2, 'b')
    .string(4, 'c')
    .finish();
  const without = new MessageWriter().varint(1, 9).float(3, 1).string(4, 'c').finish();
  assert.equal(hex(dropFields(message, (field) => field === 2)), hex(without));
  const oneLess = new MessageWriter().varint(1, 9).string(2, 'a').float(3, 1).string(4, 'c').finish();
  assert.equal(hex(dropFields(message, (_, value) => hex(value) === '62')), hex(oneLess));
  assert.equal(hex(dropFields(message, () => false)), hex(message));
});

test('a cut message is refused, wherever it is cut inside a field', () => {
  const message = new MessageWriter().varint(1, 300).string(2, 'hello').float(3, 1).finish();
  const boundaries = new Set([0, 3, 10, 15]);
  for (let end = 0; end <= message.length; end++) {
    const read = (): unknown => fields(message.subarray(0, end));
    if (boundaries.has(end)) read();
    else assert.throws(read, AssertionError, `cut at ${end}`);
  }
  assert.throws(() => fields(Buffer.from('0b', 'hex')), AssertionError, 'a group, which proto3 has not');
});
