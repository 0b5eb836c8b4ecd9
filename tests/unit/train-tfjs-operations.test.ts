// Every operator of the TensorFlow.js backend against ONNX Runtime's, on the same graph and inputs.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { float, GraphBuilder, int, ints, MICROSOFT, type Attributes } from '../../src/graph/builder.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { GRADIENT_RULES } from '../../src/train/autodiff/gradient-rules.js';
import { product } from '../../src/train/autodiff/shapes.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { OPERATIONS } from '../../src/train/tfjs/operations.js';
import { createTfjsBackend } from '../../src/train/tfjs-backend.js';
import type { Backend, InputData, InputValue } from '../../src/train/types.js';
import { assertClose, sequence } from '../helpers/gradient-check.js';

const onnx = createOnnxBackend(new Runtime(), 1);
let tfjs: Backend;
before(async () => (tfjs = await createTfjsBackend()));
after(() => {
  onnx.dispose();
  tfjs.dispose();
});

/** f32 by shape, drawn from [low, high); or integers as given. */
type Input = readonly number[] | { readonly data: InputData; readonly shape: readonly number[] };
interface Case {
  readonly op: string;
  readonly title?: string;
  readonly inputs: Readonly<Record<string, Input>>;
  /** Integer constants of the graph, which follow the inputs. */
  readonly constants?: readonly (readonly number[])[];
  readonly attributes?: Attributes;
  readonly domain?: string;
  readonly outputs: readonly (readonly number[])[];
  readonly low?: number;
  readonly high?: number;
}

const i64 = (shape: readonly number[], ...values: readonly number[]): Input => ({
  data: BigInt64Array.from(values, BigInt),
  shape,
});
const u8 = (shape: readonly number[], seed = 3): Input => {
  const random = sequence(seed);
  return { data: Uint8Array.from({ length: product(shape) }, () => Math.floor(random() * 256)), shape };
};
const positive = { low: 0.25, high: 3 };
const a: Case['inputs'] = { a: [3, 4] };
const a234: Case['inputs'] = { a: [2, 3, 4] };
const fused = { domain: MICROSOFT };

const CASES: readonly Case[] = [
  ...['Add', 'Sub', 'Mul'].flatMap((op): Case[] => [
    { op, inputs: { a: [2, 3], b: [2, 3] }, outputs: [[2, 3]] },
    { op, title: 'broadcast both', inputs: { a: [4, 1, 3], b: [2, 1] }, outputs: [[4, 2, 3]] },
    { op, title: 'a scalar', inputs: { a: [2, 3], b: [] }, outputs: [[2, 3]] },
    { op, title: 'rank 5', inputs: { a: [2, 1, 3, 2, 2], b: [4, 1, 1, 2] }, outputs: [[2, 4, 3, 2, 2]] },
  ]),
  { op: 'Div', inputs: { a: [2, 3], b: [3] }, outputs: [[2, 3]], ...positive },
  { op: 'Pow', inputs: { a: [2, 3], b: [1] }, outputs: [[2, 3]], ...positive },
  ...['Neg', 'Exp', 'Reciprocal', 'Sigmoid', 'Tanh', 'Relu', 'Sign', 'Identity'].map((op): Case => ({
    op,
    inputs: a,
    outputs: [[3, 4]],
    low: -3,
    high: 3,
  })),
  ...['Log', 'Sqrt'].map((op): Case => ({ op, inputs: a, outputs: [[3, 4]], ...positive })),
  { op: 'Sigmoid', title: 'far out', inputs: a, outputs: [[3, 4]], low: -120, high: 120 },
  { op: 'Cast', title: 'u8', inputs: { a: u8([3, 4]) }, attributes: { to: int(1) }, outputs: [[3, 4]] },
  {
    op: 'Cast',
    title: 'i64',
    inputs: { a: i64([3], -2, 0, 70_000) },
    attributes: { to: int(1) },
    outputs: [[3]],
  },
  {
    op: 'SimplifiedLayerNormalization',
    inputs: { a: [2, 3, 4], b: [4] },
    attributes: { axis: int(-1), epsilon: float(1e-3), stash_type: int(1) },
    outputs: [
      [2, 3, 4],
      [2, 3, 1],
    ],
  },
  {
    op: 'RotaryEmbedding',
    inputs: { a: [2, 2, 8], positions: i64([2, 2], 3, 0, 1, 2), cos: [4, 2], sin: [4, 2] },
    outputs: [[2, 2, 8]],
    domain: MICROSOFT,
  },
  ...['ReduceSum', 'ReduceMean', 'ReduceMax'].flatMap((op): Case[] => [
    { op, inputs: a234, constants: [[0, -1]], attributes: { keepdims: int(0) }, outputs: [[3]] },
    { op, title: 'keepdims', inputs: a234, constants: [[1]], outputs: [[2, 1, 4]] },
    { op, title: 'all', inputs: a234, attributes: { keepdims: int(0) }, outputs: [[]] },
    {
      op,
      title: 'none',
      inputs: a234,
      constants: [[]],
      attributes: { noop_with_empty_axes: int(1) },
      outputs: [[2, 3, 4]],
    },
  ]),
  ...['Softmax', 'LogSoftmax'].flatMap((op): Case[] => [
    { op, inputs: a234, outputs: [[2, 3, 4]], low: -5, high: 5 },
    {
      op,
      title: 'axis 1',
      inputs: a234,
      attributes: { axis: int(1) },
      outputs: [[2, 3, 4]],
      low: -5,
      high: 5,
    },
    { op, title: 'large', inputs: a, attributes: { axis: int(-1) }, outputs: [[3, 4]], low: 900, high: 1000 },
  ]),
  { op: 'Reshape', inputs: a234, constants: [[0, -1]], outputs: [[2, 12]] },
  { op: 'Reshape', title: 'whole', inputs: a234, constants: [[4, 3, 2]], outputs: [[4, 3, 2]] },
  { op: 'Transpose', inputs: a234, outputs: [[4, 3, 2]] },
  {
    op: 'Transpose',
    title: 'rank 4',
    inputs: { a: [2, 3, 4, 5] },
    attributes: { perm: ints(0, 2, 1, 3) },
    outputs: [[2, 4, 3, 5]],
  },
  {
    op: 'Transpose',
    title: 'rank 5',
    inputs: { a: [2, 3, 4, 5, 2] },
    attributes: { perm: ints(4, 0, 3, 1, 2) },
    outputs: [[2, 2, 5, 3, 4]],
  },
  { op: 'Unsqueeze', inputs: a, constants: [[0, -1]], outputs: [[1, 3, 4, 1]] },
  { op: 'Squeeze', inputs: { a: [1, 3, 1, 4] }, constants: [[-2]], outputs: [[1, 3, 4]] },
  { op: 'Squeeze', title: 'all ones', inputs: { a: [1, 3, 1, 4] }, outputs: [[3, 4]] },
  { op: 'Expand', inputs: { a: [2, 1] }, constants: [[3, 1, 4]], outputs: [[3, 2, 4]] },
  {
    op: 'Expand',
    title: 'rank 5',
    inputs: { a: [2, 2, 1, 3, 2] },
    constants: [[1, 1, 4, 1, 1]],
    outputs: [[2, 2, 4, 3, 2]],
  },
  {
    op: 'Concat',
    inputs: { a: [2, 1], b: [2, 3], c: [2, 2] },
    attributes: { axis: int(-1) },
    outputs: [[2, 6]],
  },
  {
    op: 'Split',
    inputs: { a: [2, 5] },
    constants: [[2, 3]],
    attributes: { axis: int(1) },
    outputs: [
      [2, 2],
      [2, 3],
    ],
  },
  {
    op: 'Split',
    title: 'in a number of parts',
    inputs: { a: [5, 2] },
    attributes: { num_outputs: int(2) },
    outputs: [
      [3, 2],
      [2, 2],
    ],
  },
  { op: 'Slice', inputs: { a: [3, 5] }, constants: [[1], [4], [-1]], outputs: [[3, 3]] },
  {
    op: 'Slice',
    title: 'from the end',
    inputs: { a: [3, 5] },
    constants: [
      [-2, -9],
      [2 ** 53, -1],
    ],
    outputs: [[2, 4]],
  },
  { op: 'Pad', inputs: a, constants: [[1, 0, 2, 3]], outputs: [[6, 7]] },
  { op: 'Gather', inputs: { a: [4, 2], i: i64([3], 3, 0, 3) }, outputs: [[3, 2]] },
  {
    op: 'Gather',
    title: 'from the end, rank 2',
    inputs: { a: [4, 2], i: i64([2, 2], -1, 0, -4, 2) },
    outputs: [[2, 2, 2]],
  },
  {
    op: 'Gather',
    title: 'axis 1, a scalar',
    inputs: { a: [2, 3, 2], i: i64([], 1) },
    attributes: { axis: int(1) },
    outputs: [[2, 2]],
  },
  {
    op: 'ScatterND',
    inputs: { a: [4, 2], i: i64([3, 1], 3, 0, 3), u: [3, 2] },
    attributes: { reduction: { string: 'add' } },
    outputs: [[4, 2]],
  },
  { op: 'MatMul', inputs: { a: [2, 3], b: [3, 4] }, outputs: [[2, 4]] },
  { op: 'MatMul', title: 'one b for many a', inputs: { a: [5, 2, 3], b: [3, 4] }, outputs: [[5, 2, 4]] },
  {
    op: 'MatMul',
    title: 'broadcast batches',
    inputs: { a: [2, 1, 3, 4], b: [3, 4, 2] },
    outputs: [[2, 3, 3, 2]],
  },
  ...[0, 1].flatMap((transA) =>
    [0, 1].flatMap((transB): Case[] => [
      {
        op: 'FusedMatMul',
        title: `transA ${transA}, transB ${transB}`,
        inputs: { a: transA ? [3, 2] : [2, 3], b: transB ? [4, 3] : [3, 4] },
        attributes: { transA: int(transA), transB: int(transB), alpha: float(0.7) },
        outputs: [[2, 4]],
        ...fused,
      },
      {
        op: 'FusedMatMul',
        title: `batches, transA ${transA}, transB ${transB}`,
        inputs: { a: transA ? [2, 2, 3, 2] : [2, 2, 2, 3], b: transB ? [2, 2, 4, 3] : [2, 2, 3, 4] },
        attributes: { transA: int(transA), transB: int(transB) },
        outputs: [[2, 2, 2, 4]],
        ...fused,
      },
    ]),
  ),
  {
    op: 'MatMulBnb4',
    inputs: { x: [2, 70], codes: u8([105]), absmax: [4] },
    attributes: { K: int(70), N: int(3), block_size: int(64), quant_type: int(1), transB: int(1) },
    outputs: [[2, 3]],
    ...fused,
  },
];

interface Drawn {
  readonly graph: GraphBuilder;
  readonly inputs: ReadonlyMap<string, InputValue>;
}

function draw({ op, inputs, constants = [], attributes, domain, outputs, low = -1, high = 1 }: Case): Drawn {
  const graph = new GraphBuilder();
  const random = sequence(7);
  const values = new Map<string, InputValue>();
  for (const [name, input] of Object.entries(inputs)) {
    const value =
      'data' in input
        ? input
        : {
            data: Float32Array.from({ length: product(input) }, () => low + (high - low) * random()),
            shape: input,
          };
    const type = value.data instanceof Float32Array ? 'f32' : value.data instanceof Uint8Array ? 'u8' : 'i64';
    graph.input(name, type, value.shape);
    values.set(name, value);
  }
  const fixed = constants.map((numbers, i) =>
    graph.constant(`c${i}`, BigInt64Array.from(numbers, BigInt), [numbers.length]),
  );
  const all = outputs.map((_, i) => i);
  const names = graph.nodeN(op, 'y', [...values.keys(), ...fixed], all, attributes, domain);
  outputs.forEach((shape, i) => graph.output(names[i]!, 'f32', shape));
  return { graph, inputs: values };
}

async function compute(
  backend: Backend,
  { graph, inputs }: Drawn,
): Promise<ReadonlyMap<string, Float32Array>> {
  const executor = await backend.compile(graph);
  try {
    const wanted = new Map(graph.outputs.map(({ name, shape }) => [name, shape as readonly number[]]));
    return await executor.run(inputs, wanted);
  } finally {
    executor.dispose();
  }
}

for (const each of CASES)
  test(`${each.op}${each.title ? `, ${each.title}` : ''}: equal on both backends`, async () => {
    const drawn = draw(each);
    const expected = await compute(onnx, drawn);
    const actual = await compute(tfjs, drawn);
    assert.deepEqual([...actual.keys()], [...expected.keys()]);
    for (const [name, values] of expected) assertClose(actual.get(name)!, values, 2e-6, name);
  });

test('Where: equal on both backends', async () => {
  const graph = new GraphBuilder();
  for (const name of ['a', 'b']) graph.input(name, 'f32', [2, 3]);
  const bits = graph.constant('bits', BigInt64Array.of(1n, 0n, 5n), [3]);
  const condition = graph.node('Cast', 'condition', [bits], { to: int(9) });
  graph.output(graph.node('Where', 'y', [condition, 'a', 'b']), 'f32', [2, 3]);
  const inputs = new Map(
    ['a', 'b'].map((name, i) => [
      name,
      { data: Float32Array.from([1, 2, 3, 4, 5, 6], (x) => x + 10 * i), shape: [2, 3] },
    ]),
  );
  const expected = [1, 12, 3, 4, 15, 6];
  for (const backend of [onnx, tfjs])
    assert.deepEqual([...(await compute(backend, { graph, inputs })).get('y')!], expected, backend.name);
});

test('every operator of the backend has a case, and every differentiable one is there', () => {
  const tested = new Set([...CASES.map(({ op }) => op), 'Where']);
  assert.deepEqual(
    Object.keys(OPERATIONS).filter((op) => !tested.has(op)),
    [],
  );
  assert.deepEqual(
    Object.keys(GRADIENT_RULES).filter((op) => OPERATIONS[op] === undefined),
    // Of kernels that this backend does not have: precision.ts.
    ['Bfloat16Linear'],
  );
});
