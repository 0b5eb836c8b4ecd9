// A tiny model's bytes, written out field by field after onnx.proto; constants read back; and the builder's rules.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssertionError } from '../../src/errors.js';
import { float, GraphBuilder, int, ints, MICROSOFT } from '../../src/graph/builder.js';
import { decodeInitializers, encodeModel, externalData, withExternalData } from '../../src/graph/onnx.js';

/** One field with a length in front: tag (field * 8 + 2), length, content; all below 128 bytes here. */
function delimited(field: number, ...parts: readonly (Uint8Array | string)[]): Buffer {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part)));
  assert(content.length < 128 && field < 16);
  return Buffer.concat([Buffer.of(field * 8 + 2, content.length), content]);
}
const number = (field: number, value: number): Buffer => Buffer.of(field * 8, value);

function tinyGraph(): GraphBuilder {
  const graph = new GraphBuilder();
  const x = graph.input('x', 'f32', ['B', 2]);
  const w = graph.constant('w', Float32Array.of(1.5), [1]);
  graph.output(
    graph.node('Mul', 'y', [x, w], { axis: int(-1), alpha: float(0.5), p: ints(1, 2) }, MICROSOFT),
    'f32',
    [],
  );
  return graph;
}

test('golden bytes of a tiny model', () => {
  const minusOne = Buffer.from('ffffffffffffffffff01', 'hex');
  const half = Buffer.from('0000003f', 'hex');
  const kind = (value: number): Buffer => Buffer.of(0xa0, 0x01, value); // AttributeProto.type = 20
  const node = delimited(
    1,
    delimited(1, 'x'),
    delimited(1, 'w'),
    delimited(2, 'y'),
    delimited(3, 'y'),
    delimited(4, 'Mul'),
    delimited(5, delimited(1, 'axis'), Buffer.of(0x18), minusOne, kind(2)), // i = 3, INT
    delimited(5, delimited(1, 'alpha'), Buffer.of(0x15), half, kind(1)), // f = 2, FLOAT
    delimited(5, delimited(1, 'p'), number(8, 1), number(8, 2), kind(7)), // ints = 8, INTS
    delimited(7, 'com.microsoft'),
  );
  const weight = delimited(
    5,
    number(1, 1),
    number(2, 1),
    delimited(8, 'w'),
    delimited(9, Buffer.from('0000c03f', 'hex')),
  );
  const valueInfo = (field: number, name: string, ...dims: Buffer[]): Buffer =>
    delimited(field, delimited(1, name), delimited(2, delimited(1, number(1, 1), delimited(2, ...dims))));
  const dimB = delimited(1, delimited(2, 'B'));
  const dim2 = delimited(1, number(1, 2));
  const graph = Buffer.concat([
    node,
    delimited(2, 'graph'),
    weight,
    valueInfo(11, 'x', dimB, dim2),
    valueInfo(12, 'y'),
  ]);
  const expected = Buffer.concat([
    number(1, 10), // IR version
    Buffer.of(7 * 8 + 2, 0x80 | (graph.length & 127), graph.length >> 7),
    graph,
    delimited(8, delimited(1, ''), number(2, 21)),
    delimited(8, delimited(1, 'com.microsoft'), number(2, 1)),
  ]);
  assert(graph.length >= 128);
  assert.equal(Buffer.from(tinyGraph().encode()).toString('hex'), expected.toString('hex'));
});

test('constants are read back by name, and travel to another model byte by byte', () => {
  const graph = tinyGraph();
  graph.constant('n', BigInt64Array.of(-1n, 5n), [2]);
  graph.external('big', 'u8', [4, 16], { location: 'w.bin', offset: 4096, length: 64 });
  const constants = decodeInitializers(graph.encode());
  assert.deepEqual(
    constants.map(({ name }) => name),
    ['w', 'n', 'big'],
  );
  const moved = encodeModel({ nodes: [], initializers: constants, inputs: [], outputs: [] });
  assert.deepEqual(decodeInitializers(moved), constants);
});

test('external data: read, replaced, and absent where the bytes are inside', () => {
  const graph = new GraphBuilder();
  graph.constant('inside', Float32Array.of(1), [1]);
  graph.external('big', 'f32', [16], { location: 'w.bin', offset: 4096, length: 64 });
  const [inside, big] = decodeInitializers(graph.encode());
  assert.deepEqual([...externalData(inside!)], []);
  assert.deepEqual(
    [...externalData(big!)],
    [
      ['location', 'w.bin'],
      ['offset', '4096'],
      ['length', '64'],
    ],
  );
  const entries = new Map([
    ['location', 'other.bin'],
    ['offset', '8192'],
  ]);
  const moved = withExternalData(big!, entries);
  assert.equal(moved.name, 'big');
  assert.deepEqual(externalData(moved), entries);
  assert.deepEqual([...externalData(big!).values()], ['w.bin', '4096', '64'], 'the original is as it was');
});

test('the builder refuses a second value of the same name', () => {
  const graph = tinyGraph();
  assert.throws(() => graph.input('w', 'f32', []), AssertionError);
  assert.throws(() => graph.node('Add', 'y', ['x', 'x']), AssertionError);
  graph.nodeN('Split', 's', ['x'], [0, 2]);
  assert.throws(() => graph.constant('s.2', Float32Array.of(1), [1]), AssertionError);
});

test('a node with several outputs names those in use and leaves the others out', () => {
  const graph = new GraphBuilder();
  graph.input('x', 'f32', [2]);
  assert.deepEqual(graph.nodeN('Split', 's', ['x'], [0, 3]), ['s.0', 's.3']);
  assert.deepEqual(graph.nodes[0]!.outputs, ['s.0', '', '', 's.3']);
});

test('a constant over a part of a buffer takes that part alone', () => {
  const graph = new GraphBuilder();
  graph.constant('part', Float32Array.of(1, 2, 3).subarray(1, 2), [1]);
  const whole = new GraphBuilder();
  whole.constant('part', Float32Array.of(2), [1]);
  assert.deepEqual(graph.encode(), whole.encode());
});
