// The forms of frozen weights: dequantized in the graph they are the values that are served, and a model trains alike over any of them.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { GraphBuilder } from '../../src/graph/builder.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { Expressions } from '../../src/train/autodiff/expressions.js';
import { type FrozenMatrix, loadFrozenMatrix, type MatrixForm } from '../../src/train/frozen-weights.js';
import { compileGraph } from '../../src/train/graphs/compiled-graph.js';
import { frozenMatrix } from '../../src/train/graphs/dequantize.js';
import { createLoraMethod } from '../../src/train/methods/lora.js';
import { dequantizeNf4, quantizeNf4 } from '../../src/train/nf4.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import type { FrozenWeights } from '../../src/train/options.js';
import { assertClose, centralDifferences, sequence, spread } from '../helpers/gradient-check.js';
import { batchOf } from '../helpers/train-fixtures.js';
import { LORA_R8, type TrainingBase, trainingBase } from '../helpers/training-model.js';

const backend = createOnnxBackend(new Runtime(), 1);
after(() => backend.dispose());

/** What the graph makes of a matrix. */
async function dequantized(
  { form, parts }: FrozenMatrix,
  shape: readonly [number, number],
): Promise<Float32Array> {
  const e = new Expressions(new GraphBuilder(), 'f');
  const value = e.scale(frozenMatrix(e, 'w', form, shape), 2);
  e.graph.output(value, 'f32', shape);
  const graph = await compileGraph(backend, e.graph);
  const values = new Map([...parts].map(([suffix, data]) => [`w${suffix}`, data] as const));
  const doubled = (await graph.run([values])).get(value)!;
  graph.dispose();
  return doubled.map((each) => each / 2);
}

for (const weights of ['q4', 'q8', 'f32'] as const)
  test(`${weights}: every served matrix is dequantized to the values that are served`, async () => {
    const base = await trainingBase('llama-tied', weights);
    for (const [name, { rows, cols, kind }] of Object.entries(base.artifact.manifest.matrices)) {
      const matrix = loadFrozenMatrix(base.artifact, name, 'int4', 'f32');
      assert.equal(matrix.form.kind, kind === 'f32' ? 'f32' : 'codes');
      const actual = await dequantized(matrix, [rows, cols]);
      const expected = base.artifact.readMatrixF32(name);
      const most = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      actual.forEach((value, i) =>
        assert(Math.abs(value - expected[i]!) <= most * 2 ** -23, `${name}[${i}]: ${value}, ${expected[i]}`),
      );
    }
    await base.close();
  });

/** rows x cols of codes with minima; f16-like scales, as GGUF files have them. */
function codedMatrix(rows: number, cols: number, form: MatrixForm & { readonly kind: 'codes' }) {
  const random = sequence(5);
  const { blockSize, zero } = form;
  const minimaBlockSize = form.minimaBlockSize!;
  const blocks = Math.ceil(cols / blockSize);
  const minimaBlocks = Math.ceil(cols / minimaBlockSize);
  const short = () => Math.floor(random() * 2048) / 4096;
  const codes = Uint8Array.from({ length: rows * blocks * blockSize }, () => random() * 2 * zero);
  const scales = Float32Array.from({ length: rows * blocks }, short);
  const minima = Float32Array.from({ length: rows * minimaBlocks }, short);
  const expected = Float32Array.from({ length: rows * cols }, (_, i) => {
    const [row, k] = [Math.floor(i / cols), i % cols];
    const code = codes[row * blocks * blockSize + k]! - zero;
    const minimum = minima[row * minimaBlocks + Math.floor(k / minimaBlockSize)]!;
    return scales[row * blocks + Math.floor(k / blockSize)]! * code + minimum;
  });
  const parts = new Map<string, Float32Array | Uint8Array>([
    ['', codes],
    ['.scales', scales],
    ['.minima', minima],
  ]);
  return { matrix: { form, parts }, expected };
}

for (const [blockSize, minimaBlockSize, cols] of [
  [32, 32, 64],
  [16, 32, 64],
  [32, 16, 64],
  [32, 16, 40],
  [16, 32, 40],
] as const)
  test(`codes in blocks of ${blockSize}, minima of ${minimaBlockSize}, ${cols} columns: exact`, async () => {
    const form = { kind: 'codes', zero: 8, blockSize, minimaBlockSize } as const;
    const { matrix, expected } = codedMatrix(3, cols, form);
    assert.deepEqual(await dequantized(matrix, [3, cols]), expected);
  });

test('NF4 is dequantized to the values of its codes', async () => {
  const base = await trainingBase('llama-tied');
  const name = 'layers.1.mlp.down_proj';
  const { rows, cols } = base.artifact.manifest.matrices[name]!;
  const actual = await dequantized(loadFrozenMatrix(base.artifact, name, 'nf4', 'f32'), [rows, cols]);
  assert.deepEqual(actual, dequantizeNf4(quantizeNf4(base.artifact.readMatrixF32(name), [rows, cols])));
  await base.close();
});

const BATCH = batchOf([[{ tokens: [5, 80, 33, 120, 9, 200] }], [{ tokens: [17, 18, 250] }]]);

async function accumulated(base: TrainingBase, frozenWeights: FrozenWeights) {
  const method = createLoraMethod(base.artifact.manifest, LORA_R8, 5);
  const draw = sequence(11);
  for (const { values } of method.parameters) values.forEach((_, i) => (values[i] = (draw() - 0.5) / 4));
  const model = base.model(method, { frozenWeights });
  const logprobs = await model.accumulate(BATCH, (each) => each.map(() => 1), null);
  return { model, logprobs, gradients: method.parameters.map(({ gradient }) => gradient) };
}

test('log-probabilities and gradients over 4-bit codes are those over the same values as f32', async () => {
  const base = await trainingBase('llama-tied', 'q4');
  const [coded, plain] = [await accumulated(base, 'int4'), await accumulated(base, 'f32')];
  assertClose(coded.logprobs, plain.logprobs, 1e-5, 'log-probabilities');
  coded.gradients.forEach((gradient, i) => assertClose(gradient, plain.gradients[i]!, 1e-4, `gradient ${i}`));
  await base.close();
});

test('gradients over NF4 equal central differences', async () => {
  const base = await trainingBase('llama-tied');
  const { model, logprobs, gradients } = await accumulated(base, 'nf4');
  assert.notDeepEqual(logprobs, (await accumulated(base, 'f32')).logprobs);
  const loss = async () => (await model.logprobs(BATCH)).reduce((sum, value) => sum + value, 0);
  for (const [i, { name, values }] of model.parameters.entries()) {
    const some = spread(values.length, 2);
    const expected = await centralDifferences(values, loss, 1 / 64, some);
    assertClose(
      some.map((at) => gradients[i]![at]!),
      expected,
      1e-2,
      name,
    );
  }
  await base.close();
});
