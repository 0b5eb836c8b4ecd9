// Training whose products with frozen matrices are in bfloat16: its gradients, and that it is close to training in f32.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { GraphBuilder } from '../../src/graph/builder.js';
import { bfloat16Kernels } from '../../src/runtime/native-kernels.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { differentiate } from '../../src/train/autodiff/differentiate.js';
import { Expressions } from '../../src/train/autodiff/expressions.js';
import { compileGraph } from '../../src/train/graphs/compiled-graph.js';
import { headGraph } from '../../src/train/graphs/head-graph.js';
import { createLoraMethod } from '../../src/train/methods/lora.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { DEFAULT_OPTIONS, type FrozenWeights, type Precision } from '../../src/train/options.js';
import { planMemory } from '../../src/train/plan/memory.js';
import { precisionHere } from '../../src/train/precision.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { centralDifferences, sequence, spread } from '../helpers/gradient-check.js';
import { batchOf } from '../helpers/train-fixtures.js';
import { LORA_R8, trainingBase } from '../helpers/training-model.js';

const kernels = bfloat16Kernels();
const skip = kernels === null && 'no kernels with bfloat16 were compiled here, or the processor has none';
const backend = createOnnxBackend(new Runtime(kernels), 1);
after(() => backend.dispose());

function drawn(seed: number, size: number): Float32Array {
  const random = sequence(seed);
  return Float32Array.from({ length: size }, () => 2 * random() - 1);
}

/** Largest difference, relative to the largest value. */
function distance(actual: Float32Array, expected: ArrayLike<number>): number {
  assert.equal(actual.length, expected.length);
  const largest = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert(largest > 0, 'nothing to compare');
  return actual.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0) / largest;
}

for (const transposed of [false, true])
  test(`gradient of a product, transposed ${transposed}: as of the one in f32`, { skip }, async () => {
    const [rows, cols, numRows] = [48, 40, 6];
    const [depth, width] = transposed ? [rows, cols] : [cols, rows];
    const values = new Map([
      ['x', drawn(1, numRows * depth)],
      ['w', drawn(2, rows * cols)],
      ['dy', drawn(3, numRows * width)],
    ]);
    const gradient = async (
      draw: (e: Expressions, x: string, w: string) => string,
    ): Promise<Float32Array> => {
      const graph = new GraphBuilder();
      const [x, w] = [graph.input('x', 'f32', [numRows, depth]), graph.input('w', 'f32', [rows, cols])];
      const y = draw(new Expressions(graph, 'f'), x, w);
      const dy = graph.input('dy', 'f32', [numRows, width]);
      const [dx] = differentiate(graph, new Map([[y, dy]]), ['x']);
      graph.output(dx!, 'f32', [numRows, depth]);
      const compiled = await compileGraph(backend, graph);
      const found = (await compiled.run([values])).get(dx!)!;
      compiled.dispose();
      return found;
    };
    const rounded = await gradient((e, x, w) => e.bfloat16Product(x, w, transposed));
    const exact = await gradient((e, x, w) => e.matmul(x, w, { transB: !transposed }));
    assert(distance(rounded, exact) < 1e-2);
  });

const HEAD = smallArchitecture({ hiddenSize: 48, vocabSize: 70 });

test('head: central differences, and no log-probability is above 0', { skip }, async () => {
  const numRows = 4;
  const { graph, logprobs, gradients } = headGraph(HEAD, numRows, 'rows', 'bf16');
  const compiled = await compileGraph(backend, graph);
  const h = drawn(1, numRows * 48);
  const head = drawn(2, 70 * 48);
  // The first row's label is all but certain.
  head.set(
    h.subarray(0, 48).map((value) => 8 * value),
    0,
  );
  const values = new Map<string, Float32Array | BigInt64Array>([
    ['h', h],
    ['labels', BigInt64Array.of(0n, 3n, 69n, 11n)],
    ['norm', new Float32Array(48).fill(1)],
    ['head', head],
  ]);
  const results = await compiled.run([values]);
  assert(results.get(logprobs)!.every((value) => value <= 1e-4));
  const exact = headGraph(HEAD, numRows, 'none', 'f32');
  const reference = await compileGraph(backend, exact.graph);
  const loss = async (): Promise<number> =>
    (await reference.run([values])).get(exact.logprobs)!.reduce((sum, value) => sum + value, 0);
  const indices = spread(h.length, 24);
  const expected = await centralDifferences(h, loss, 1 / 64, indices);
  const gradient = results.get(gradients.get('h')!)!;
  const found = Float32Array.from(indices, (i) => gradient[i]!);
  assert(distance(found, expected) < 3e-2, String(distance(found, expected)));
  for (const each of [compiled, reference]) each.dispose();
});

const BATCH = batchOf([[{ tokens: [5, 80, 33, 120, 9, 200] }], [{ tokens: [17, 18, 250] }]]);

for (const frozenWeights of ['f32', 'int4', 'nf4'] as const satisfies readonly FrozenWeights[])
  test(
    `${frozenWeights}: log-probabilities and gradients of a model are close to those in f32`,
    { skip },
    async () => {
      const base = await trainingBase('llama-tied', 'q4');
      const accumulated = async (precision: Precision) => {
        const method = createLoraMethod(base.artifact.manifest, LORA_R8, 5);
        const draw = sequence(11);
        for (const { values } of method.parameters)
          values.forEach((_, i) => (values[i] = (draw() - 0.5) / 4));
        const model = base.model(method, { frozenWeights, precision, backend });
        const logprobs = await model.accumulate(BATCH, (each) => each.map(() => 1), null);
        const again = await model.logprobs(BATCH);
        return { logprobs, again, gradients: method.parameters.map(({ gradient }) => gradient) };
      };
      const rounded = await accumulated('bf16');
      const exact = await accumulated('f32');
      assert.deepEqual(rounded.again, rounded.logprobs);
      assert.notDeepEqual(rounded.logprobs, exact.logprobs);
      assert(distance(rounded.logprobs, exact.logprobs) < 1e-2);
      rounded.gradients.forEach((each, i) =>
        assert(distance(each, exact.gradients[i]!) < 5e-2, `gradient ${i}`),
      );
      await base.close();
    },
  );

test('where it is computed, and what it takes', () => {
  const bf16 = { ...DEFAULT_OPTIONS, precision: 'bf16' } as const;
  assert.equal(precisionHere(DEFAULT_OPTIONS), 'f32');
  assert.equal(precisionHere({ ...bf16, backend: 'tfjs' }), 'f32');
  assert.equal(precisionHere(bf16), kernels === null ? 'f32' : 'bf16');
  const blockBytes = (options: typeof bf16 | typeof DEFAULT_OPTIONS): number =>
    planMemory(HEAD, options, 128).find(({ name }) => name === 'frozen blocks')!.bytes;
  assert.equal(blockBytes(bf16), blockBytes(DEFAULT_OPTIONS) / 2);
});
