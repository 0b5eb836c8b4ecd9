// NF4 weights in a graph: exactly the values of dequantizeNf4 through both backends, products with them, and the self-test.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { GraphBuilder, int, MICROSOFT } from '../../src/graph/builder.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { dequantizeNf4, expandAbsmax, quantizeNf4 } from '../../src/train/nf4.js';
import { checkNf4Kernel, dequantizeNf4Node } from '../../src/train/nf4-node.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { createTfjsBackend } from '../../src/train/tfjs-backend.js';
import type { Backend, InputValue } from '../../src/train/types.js';
import { assertClose, sequence } from '../helpers/gradient-check.js';

const onnx = createOnnxBackend(new Runtime(), 1);
let tfjs: Backend;
before(async () => (tfjs = await createTfjsBackend()));
after(() => {
  onnx.dispose();
  tfjs.dispose();
});

/** A graph with the matrix's parts as inputs, and their values. */
function drawMatrix(shape: readonly [number, number]) {
  const random = sequence(5);
  const values = Float32Array.from(
    { length: shape[0] * shape[1] },
    () => (random() - 0.5) * (0.1 + random()),
  );
  const matrix = quantizeNf4(values, shape);
  const absmax = expandAbsmax(matrix);
  const graph = new GraphBuilder();
  graph.input('codes', 'u8', [matrix.codes.length]);
  graph.input('absmax', 'f32', [absmax.length]);
  const inputs = new Map<string, InputValue>([
    ['codes', { data: matrix.codes, shape: [matrix.codes.length] }],
    ['absmax', { data: absmax, shape: [absmax.length] }],
  ]);
  return { graph, inputs, expected: dequantizeNf4(matrix) };
}

async function run(
  backend: Backend,
  graph: GraphBuilder,
  inputs: ReadonlyMap<string, InputValue>,
): Promise<Float32Array> {
  const executor = await backend.compile(graph);
  const [{ name, shape }] = graph.outputs as [GraphBuilder['outputs'][number]];
  const found = await executor.run(inputs, new Map([[name, shape as readonly number[]]]));
  executor.dispose();
  return found.get(name)!;
}

for (const shape of [
  [64, 128],
  [5, 37],
  [3, 21],
  [1, 1],
  [576, 193],
] as const)
  test(`a matrix [${shape.join(', ')}] equals dequantizeNf4 to the bit on both backends`, async () => {
    const { graph, inputs, expected } = drawMatrix(shape);
    graph.output(dequantizeNf4Node(graph, 'weight', 'codes', 'absmax', shape), 'f32', shape);
    assert.deepEqual(await run(onnx, graph, inputs), expected);
    assert.deepEqual(await run(tfjs, graph, inputs), expected);
  });

test('a product with the dequantized matrix is the kernel of MatMulBnb4 on the codes', async () => {
  const [rows, cols] = [24, 70];
  const x = Float32Array.from({ length: 3 * cols }, sequence(9));
  const withX = ({ graph, inputs }: ReturnType<typeof drawMatrix>) => {
    graph.input('x', 'f32', [3, cols]);
    return { graph, inputs: new Map([...inputs, ['x', { data: x, shape: [3, cols] }]]) };
  };
  const direct = withX(drawMatrix([rows, cols]));
  const attributes = { K: int(cols), N: int(rows), block_size: int(64), quant_type: int(1), transB: int(1) };
  direct.graph.node('MatMulBnb4', 'y', ['x', 'codes', 'absmax'], attributes, MICROSOFT);
  direct.graph.output('y', 'f32', [3, rows]);
  const expanded = withX(drawMatrix([rows, cols]));
  const weight = dequantizeNf4Node(expanded.graph, 'weight', 'codes', 'absmax', [rows, cols]);
  expanded.graph.node('FusedMatMul', 'y', ['x', weight], { transB: int(1) }, MICROSOFT);
  expanded.graph.output('y', 'f32', [3, rows]);
  const expected = await run(onnx, direct.graph, direct.inputs);
  assertClose(await run(onnx, expanded.graph, expanded.inputs), expected, 1e-6, 'y');
});

test('more values than the kernel can count are refused', () => {
  const graph = new GraphBuilder();
  assert.throws(
    () => dequantizeNf4Node(graph, 'weight', 'codes', 'absmax', [65536, 32768]),
    /weight has 2147483648 values; the kernel counts with 32 bits/,
  );
});

test('the self-test passes on both backends and leaves nothing open', async () => {
  const runtime = new Runtime();
  await checkNf4Kernel(createOnnxBackend(runtime, 1));
  assert.equal(runtime.liveHandles, 0);
  await checkNf4Kernel(tfjs);
});

test('the self-test names a backend that is wrong in a single last bit', async () => {
  let disposed = 0;
  const wrong: Backend = {
    ...onnx,
    async compile(graph) {
      const executor = await onnx.compile(graph);
      return {
        async run(inputs, outputs) {
          const found = await executor.run(inputs, outputs);
          const weight = found.get('weight')!;
          new Uint32Array(weight.buffer)[209]! ^= 1;
          return found;
        },
        dispose() {
          disposed++;
          executor.dispose();
        },
      };
    },
  };
  await assert.rejects(checkNf4Kernel(wrong), (error: unknown) => {
    assert(error instanceof GatewayError);
    assert.equal(error.code, 'unavailable');
    assert.match(error.message, /onnx backend to dequantize NF4 exactly, value 209 /);
    return true;
  });
  assert.equal(disposed, 1);
});
