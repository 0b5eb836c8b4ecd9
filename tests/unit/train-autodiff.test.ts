// Every rule of the gradient table against central differences of the same graph, and the walk around the rules.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { int, GraphBuilder } from '../../src/graph/builder.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { differentiate } from '../../src/train/autodiff/differentiate.js';
import { Expressions } from '../../src/train/autodiff/expressions.js';
import { GRADIENT_RULES } from '../../src/train/autodiff/gradient-rules.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import type { InputValue } from '../../src/train/types.js';
import { checkGradients } from '../helpers/gradient-check.js';

const backend = createOnnxBackend(new Runtime(), 1);
after(() => backend.dispose());

type Shapes = Readonly<Record<string, readonly number[]>>;
/** Draws the expression over the named inputs; values are drawn from [low, high). */
interface Case {
  readonly op: string;
  readonly shapes: Shapes;
  readonly draw: (e: Expressions, names: readonly string[]) => string;
  readonly low?: number;
  readonly high?: number;
  readonly title?: string;
}

const ab: Shapes = { a: [2, 3], b: [2, 3] };
const a: Shapes = { a: [2, 3] };
const positive = { low: 0.5, high: 2 };

const CASES: readonly Case[] = [
  { op: 'Add', shapes: ab, draw: (e, [x, y]) => e.add(x!, y!) },
  { op: 'Add', title: 'broadcast', shapes: { a: [4, 2, 3], b: [2, 1] }, draw: (e, [x, y]) => e.add(x!, y!) },
  { op: 'Sub', shapes: { a: [3], b: [2, 3] }, draw: (e, [x, y]) => e.sub(x!, y!) },
  { op: 'Mul', shapes: { a: [2, 1, 3], b: [4, 1] }, draw: (e, [x, y]) => e.mul(x!, y!) },
  { op: 'Mul', title: 'square', shapes: a, draw: (e, [x]) => e.mul(x!, x!) },
  { op: 'Div', shapes: { a: [2, 3], b: [3] }, draw: (e, [x, y]) => e.div(x!, y!), ...positive },
  { op: 'Pow', shapes: { a: [2, 3], b: [1] }, draw: (e, [x, y]) => e.op('Pow', [x!, y!]), ...positive },
  { op: 'Neg', shapes: a, draw: (e, [x]) => e.neg(x!) },
  { op: 'Exp', shapes: a, draw: (e, [x]) => e.exp(x!) },
  { op: 'Log', shapes: a, draw: (e, [x]) => e.log(x!), ...positive },
  { op: 'Sqrt', shapes: a, draw: (e, [x]) => e.op('Sqrt', [x!]), ...positive },
  { op: 'Reciprocal', shapes: a, draw: (e, [x]) => e.op('Reciprocal', [x!]), ...positive },
  { op: 'Sigmoid', shapes: a, draw: (e, [x]) => e.sigmoid(x!) },
  { op: 'Tanh', shapes: a, draw: (e, [x]) => e.tanh(x!) },
  { op: 'Relu', shapes: a, draw: (e, [x]) => e.op('Relu', [x!]) },
  { op: 'Where', shapes: ab, draw: where },
  { op: 'Softmax', shapes: a, draw: (e, [x]) => e.op('Softmax', [x!], { axis: int(-1) }) },
  {
    op: 'Softmax',
    title: 'first axis',
    shapes: a,
    draw: (e, [x]) => e.op('Softmax', [x!], { axis: int(0) }),
  },
  { op: 'LogSoftmax', shapes: a, draw: (e, [x]) => e.op('LogSoftmax', [x!], { axis: int(-1) }) },
  { op: 'ReduceSum', shapes: { a: [2, 3, 4] }, draw: (e, [x]) => e.sum(x!, [0, -1], false) },
  { op: 'ReduceMean', shapes: { a: [2, 3, 4] }, draw: (e, [x]) => e.mean(x!, [1]) },
  { op: 'ReduceMean', title: 'without the axis', shapes: a, draw: (e, [x]) => e.mean(x!, [0], false) },
  { op: 'ReduceMax', title: 'in logSumExp', shapes: a, draw: (e, [x]) => e.logSumExp(x!) },
  { op: 'MatMul', shapes: { a: [2, 3], b: [3, 4] }, draw: (e, [x, y]) => e.op('MatMul', [x!, y!]) },
  {
    op: 'MatMul',
    title: 'shared',
    shapes: { a: [2, 2, 3], b: [3, 4] },
    draw: (e, [x, y]) => e.op('MatMul', [x!, y!]),
  },
  ...[false, true].flatMap((transA) =>
    [false, true].map((transB) => ({
      op: 'FusedMatMul',
      title: `transA ${transA}, transB ${transB}`,
      shapes: { a: transA ? [2, 3, 2] : [2, 2, 3], b: transB ? [2, 4, 3] : [2, 3, 4] },
      draw: (e: Expressions, [x, y]: readonly string[]) => e.matmul(x!, y!, { transA, transB, alpha: 0.7 }),
    })),
  ),
  {
    op: 'SimplifiedLayerNormalization',
    shapes: { a: [2, 3], b: [3] },
    draw: (e, [x, weight]) => e.rmsNorm(x!, weight!, 1e-3),
  },
  { op: 'RotaryEmbedding', shapes: { a: [2, 2, 8] }, draw: rotate },
  { op: 'Reshape', shapes: a, draw: (e, [x]) => e.op('Reshape', [x!, e.ints(3, -1)]) },
  { op: 'Squeeze', shapes: { a: [2, 1, 3] }, draw: (e, [x]) => e.op('Squeeze', [x!, e.ints(1)]) },
  { op: 'Unsqueeze', shapes: a, draw: (e, [x]) => e.op('Unsqueeze', [x!, e.ints(0, -1)]) },
  { op: 'Expand', shapes: { a: [2, 1] }, draw: (e, [x]) => e.expand(x!, [3, 2, 4]) },
  { op: 'Identity', shapes: a, draw: (e, [x]) => e.op('Identity', [x!]) },
  { op: 'Cast', shapes: a, draw: (e, [x]) => e.op('Cast', [x!], { to: int(1) }) },
  { op: 'Transpose', shapes: { a: [2, 3, 4] }, draw: (e, [x]) => e.transpose(x!, [1, 2, 0]) },
  { op: 'Split', shapes: { a: [2, 5] }, draw: (e, [x]) => e.split(x!, [2, 3], 1)[1]! },
  {
    op: 'Split',
    title: 'both parts',
    shapes: { a: [4] },
    draw: (e, [x]) => e.mul(...(e.split(x!, [2, 2], 0) as [string, string])),
  },
  { op: 'Concat', shapes: { a: [2, 1], b: [2, 3] }, draw: (e, [x, y]) => e.concat([x!, y!], -1) },
  { op: 'Slice', shapes: { a: [3, 5] }, draw: (e, [x]) => e.slice(x!, 1, 4, -1) },
  { op: 'Gather', shapes: { a: [4, 2] }, draw: (e, [x]) => e.op('Gather', [x!, e.ints(3, 0, 3)]) },
];

/** a where both are positive, else b. */
function where(e: Expressions, [x, y]: readonly string[]): string {
  return e.op('Where', [e.op('Cast', [e.ints(1, 0, 1)], { to: int(9) }), x!, y!]);
}

/** Two heads of four values, by four angles. */
function rotate(e: Expressions, [x]: readonly string[]): string {
  const angles = Array.from({ length: 8 }, (_, i) => 0.4 * i);
  const table = (name: string, of: (angle: number) => number): string =>
    e.graph.constant(name, Float32Array.from(angles, of), [4, 2]);
  return e.rotate(x!, table('cos', Math.cos), table('sin', Math.sin));
}

for (const { op, shapes, draw, low = -1, high = 1, title } of CASES)
  test(`${op}${title ? `, ${title}` : ''}: gradients equal central differences`, async () => {
    await checkGradients(backend, shapes, draw, { low, high });
  });

test('every rule of the table has a case', () => {
  assert.deepEqual(
    Object.keys(GRADIENT_RULES).filter((op) => !CASES.some((each) => each.op === op)),
    // What it rounds hides small differences: train-bfloat16.test.ts.
    ['Bfloat16Linear'],
  );
});

test('a value that is read twice gets the sum of both gradients, and only wanted paths are computed', () => {
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'f');
  const [x, w, frozen] = ['x', 'w', 'frozen'].map((name) => graph.input(name, 'f32', [2, 2]));
  const y = e.add(e.matmul(x!, w!), e.matmul(e.matmul(x!, frozen!), w!));
  const before = graph.nodes.length;
  const [dw] = differentiate(graph, new Map([[y, graph.input('dy', 'f32', [2, 2])]]), [w!]);
  const added = graph.nodes.slice(before);
  assert.deepEqual(
    added.map(({ op }) => op),
    ['FusedMatMul', 'FusedMatMul', 'Add'],
  );
  assert.equal(dw, added.at(-1)!.name);
});

test('an op without a rule is named, with its node', () => {
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'f');
  const y = e.op('Pad', [graph.input('x', 'f32', [2]), e.ints(0, 1)]);
  const dy = graph.input('dy', 'f32', [3]);
  assert.throws(
    () => differentiate(graph, new Map([[y, dy]]), ['x']),
    /no gradient rule for op Pad of node f\.0/,
  );
});

test('a wanted value that no output depends on is named', () => {
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'f');
  graph.input('unused', 'f32', [2]);
  const y = e.exp(graph.input('x', 'f32', [2]));
  const dy = graph.input('dy', 'f32', [2]);
  assert.throws(() => differentiate(graph, new Map([[y, dy]]), ['unused']), /no output depends on unused/);
});

test('a graph of thousands of nodes does not exhaust the stack', async () => {
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'f');
  let y = graph.input('x', 'f32', [1]);
  for (let i = 0; i < 5000; i++) y = e.op('Neg', [y]);
  const [dx] = differentiate(graph, new Map([[y, graph.input('dy', 'f32', [1])]]), ['x']);
  graph.output(dx!, 'f32', [1]);
  const executor = await backend.compile(graph);
  const one: InputValue = { data: Float32Array.of(1), shape: [1] };
  const results = await executor.run(
    new Map([
      ['x', one],
      ['dy', one],
    ]),
    new Map([[dx!, [1]]]),
  );
  assert.equal(results.get(dx!)![0], 1);
});
