// The TensorFlow.js backend around its operators: memory, outputs, refusals, and which package it loads.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import util from 'node:util';
import { after, before, test } from 'node:test';
import type * as Tensorflow from '@tensorflow/tfjs-core';
import { AssertionError, GatewayError } from '../../src/errors.js';
import { GraphBuilder, int } from '../../src/graph/builder.js';
import { loadTfjs, NATIVE_PACKAGES } from '../../src/train/tfjs/load.js';
import { createTfjsBackend } from '../../src/train/tfjs-backend.js';
import type { Backend, InputValue } from '../../src/train/types.js';

const loadedModules = (): string[] =>
  Object.keys(createRequire(import.meta.url).cache).filter((path) => path.includes('@tensorflow'));
const loadedByImport = loadedModules();

let tf: typeof Tensorflow;
let backend: Backend;
before(async () => {
  backend = await createTfjsBackend();
  tf = await loadTfjs();
});
after(() => backend.dispose());

/** y = softmax(x · w + 1), and the two parts of w. */
function drawGraph(): GraphBuilder {
  const graph = new GraphBuilder();
  graph.input('x', 'f32', [2, 3]);
  graph.input('w', 'f32', [3, 4]);
  const one = graph.constant('one', Float32Array.of(1), []);
  const sum = graph.node('Add', 'sum', [graph.node('MatMul', 'product', ['x', 'w']), one]);
  graph.output(graph.node('Softmax', 'y', [sum]), 'f32', [2, 4]);
  for (const part of graph.nodeN('Split', 'parts', ['w'], [0, 1], { axis: int(1), num_outputs: int(2) }))
    graph.output(part, 'f32', [3, 2]);
  return graph;
}
const inputs = new Map<string, InputValue>([
  ['x', { data: new Float32Array(6).fill(0.5), shape: [2, 3] }],
  ['w', { data: Float32Array.from({ length: 12 }, (_, i) => i), shape: [3, 4] }],
]);
const outputs = new Map([
  ['y', [2, 4]],
  ['parts.1', [3, 2]],
]);

test('the library is loaded by createTfjsBackend, not by importing it', () => {
  assert.deepEqual(loadedByImport, []);
  assert(loadedModules().length > 0);
});

test('no run leaves a tensor behind, also one that fails, and dispose frees the constants', async () => {
  const { numTensors } = tf.memory();
  const executor = await backend.compile(drawGraph());
  const compiled = tf.memory().numTensors;
  assert.equal(compiled, numTensors + 1, 'the constant');
  for (let i = 0; i < 3; i++) {
    await executor.run(inputs, outputs);
    assert.equal(tf.memory().numTensors, compiled);
  }
  await assert.rejects(executor.run(new Map([...inputs].slice(0, 1)), outputs), /MatMul product reads w/);
  await assert.rejects(executor.run(inputs, new Map([['y', [3, 3]]])), /output y is float32 \[2, 4\]/);
  assert.equal(tf.memory().numTensors, compiled);
  executor.dispose();
  assert.equal(tf.memory().numTensors, numTensors);
});

test('a value is freed when its last reader has run', async () => {
  const graph = new GraphBuilder();
  let y = graph.input('x', 'f32', [1000]);
  for (let i = 0; i < 20; i++) y = graph.node('Add', `sum${i}`, [y, y]);
  graph.output(y, 'f32', [1000]);
  const executor = await backend.compile(graph);
  const x = new Map([['x', { data: new Float32Array(1000).fill(1), shape: [1000] }]]);
  const held = tf.memory().numBytes;
  const { peakBytes } = await tf.profile(async () => {
    const found = await executor.run(x, new Map([[y, [1000]]]));
    assert.equal(found.get(y)![999], 2 ** 20);
    return [];
  });
  executor.dispose();
  assert(peakBytes - held <= 3 * 4000, `${(peakBytes - held) / 4000} values were held at once`);
});

test("disposing the backend frees every executor's constants, once", async () => {
  const { numTensors } = tf.memory();
  const other = await createTfjsBackend();
  const executor = await other.compile(drawGraph());
  await other.compile(drawGraph());
  executor.dispose();
  other.dispose();
  assert.equal(tf.memory().numTensors, numTensors);
});

test('outputs are written into the arrays that are offered; inputs and constants can be outputs too', async () => {
  const executor = await backend.compile(drawGraph());
  const into = new Float32Array(6);
  const found = await executor.run(inputs, new Map([...outputs, ['one', []]]), new Map([['parts.1', into]]));
  assert.equal(found.get('parts.1'), into);
  assert.deepEqual([...into], [2, 3, 6, 7, 10, 11]);
  assert.deepEqual([...found.get('one')!], [1]);
  assert.deepEqual(
    [...(await executor.run(inputs, new Map([['one', []]]))).get('one')!],
    [1],
    'not disposed',
  );
  executor.dispose();
});

test('an output that is left out is not kept', async () => {
  const graph = new GraphBuilder();
  graph.input('w', 'f32', [3, 4]);
  const [part] = graph.nodeN('Split', 'parts', ['w'], [1], { axis: int(1), num_outputs: int(2) });
  graph.output(part!, 'f32', [3, 2]);
  const executor = await backend.compile(graph);
  const { numTensors } = tf.memory();
  const found = await executor.run(new Map([['w', inputs.get('w')!]]), new Map([[part!, [3, 2]]]));
  assert.deepEqual([...found.get(part!)!], [2, 3, 6, 7, 10, 11]);
  assert.equal(tf.memory().numTensors, numTensors);
  executor.dispose();
});

test('an operator that is not in the table is refused by name, before anything runs', async () => {
  const graph = new GraphBuilder();
  graph.node('Einsum', 'twist', [graph.input('x', 'f32', [2])]);
  await assert.rejects(
    backend.compile(graph),
    new AssertionError('TensorFlow.js has no function for op Einsum of node twist'),
  );
});

test('forms of an operator that are not supported are refused by name', async () => {
  const refusals: readonly (readonly [RegExp, (graph: GraphBuilder) => unknown])[] = [
    [/Cast odd is to data type 10/, (graph) => graph.node('Cast', 'odd', ['x'], { to: int(10) })],
    [
      /Slice odd has a step other than 1/,
      (graph) => {
        const names = [0, 4, 0, 2].map((value, i) =>
          graph.constant(`c${i}`, BigInt64Array.of(BigInt(value)), [1]),
        );
        graph.node('Slice', 'odd', ['x', ...names]);
      },
    ],
    [/ScatterND odd must have the reduction add/, (graph) => graph.node('ScatterND', 'odd', ['x', 'x', 'x'])],
    [
      /FusedMatMul odd has transBatchA/,
      (graph) => graph.node('FusedMatMul', 'odd', ['x', 'x'], { transBatchA: int(1) }),
    ],
    [
      /MatMulBnb4 odd must have quant_type 1 and transB 1/,
      (graph) => graph.node('MatMulBnb4', 'odd', ['x', 'x', 'x'], { quant_type: int(1), transB: int(0) }),
    ],
  ];
  for (const [message, draw] of refusals) {
    const graph = new GraphBuilder();
    graph.input('x', 'f32', [4]);
    draw(graph);
    const executor = await backend.compile(graph);
    const x = new Map([['x', { data: new Float32Array(4), shape: [4] }]]);
    await assert.rejects(executor.run(x, new Map([['odd', [4]]])), message);
    executor.dispose();
  }
});

/** Packages by name: what importing each gives, or throws. */
function packages(installed: Readonly<Record<string, () => unknown>>) {
  const loaded: string[] = [];
  return {
    loaded,
    isInstalled: (name: string) => installed[name] !== undefined,
    load(name: string) {
      loaded.push(name);
      return Promise.resolve().then(() => installed[name]?.() ?? tf);
    },
  };
}

test('a native package is preferred, that for the GPU first', async () => {
  const fake = (name: string) => () => ({ name, ready: () => Promise.resolve() });
  const [gpu, cpu] = NATIVE_PACKAGES;
  const both = packages({ [gpu]: fake(gpu), [cpu]: fake(cpu) });
  assert.equal(((await loadTfjs(both)) as unknown as { name: string }).name, gpu);
  const one = packages({ [cpu]: fake(cpu) });
  assert.equal(((await loadTfjs(one)) as unknown as { name: string }).name, cpu);
  assert.deepEqual([...both.loaded, ...one.loaded], [gpu, cpu]);
});

test('a native package that does not load is an error that says what to do', async () => {
  const [gpu] = NATIVE_PACKAGES;
  const broken = packages({
    [gpu]: () => {
      throw new Error('libcudart.so.11.0 is missing');
    },
  });
  await assert.rejects(loadTfjs(broken), (error: unknown) => {
    assert(error instanceof GatewayError);
    assert.equal(error.code, 'unavailable');
    assert.match(
      error.message,
      /Expected @tensorflow\/tfjs-node-gpu, .* failed: libcudart.so.11.0 is missing/,
    );
    return true;
  });
});

test('without a native package it computes with WebAssembly', async () => {
  const none = packages({});
  await loadTfjs(none);
  assert.deepEqual(none.loaded, ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm']);
  assert.equal(tf.getBackend(), 'wasm');
});

test('tests of node:util that newer Node has not are there for the native packages', async () => {
  const tests = util as unknown as Record<string, (value: unknown) => boolean>;
  const { isNullOrUndefined } = tests;
  delete tests['isNullOrUndefined'];
  try {
    await loadTfjs(packages({ [NATIVE_PACKAGES[0]]: () => ({ ready: () => Promise.resolve() }) }));
    assert.deepEqual(
      [null, undefined, 0].map((value) => tests['isNullOrUndefined']!(value)),
      [true, true, false],
    );
  } finally {
    tests['isNullOrUndefined'] = isNullOrUndefined!;
  }
});
