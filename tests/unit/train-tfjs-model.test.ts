// A whole training step on TensorFlow.js against ONNX Runtime: log-probabilities and the gradient of every parameter, for every method and
// every form of frozen weights.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { createMethod } from '../../src/train/methods/create-method.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import type { FrozenWeights, MethodOptions } from '../../src/train/options.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { createTfjsBackend } from '../../src/train/tfjs-backend.js';
import { createTrainingModel } from '../../src/train/training-model.js';
import type { Backend } from '../../src/train/types.js';
import { tinyModel, type TinyModel } from '../helpers/tiny-model.js';
import { batchOf } from '../helpers/train-fixtures.js';
import { ADAPTER_METHODS, CHAT_TEMPLATE_HASH } from '../helpers/trained-method.js';

const TOLERANCE = 1e-4;
let plain: TinyModel;
let quantized: TinyModel;
let onnx: Backend;
let tfjs: Backend;
before(async () => {
  plain = await tinyModel('llama-tied');
  quantized = await tinyModel('llama-tied', 'q4');
  onnx = createOnnxBackend(new Runtime(), 1);
  tfjs = await createTfjsBackend();
});
after(() => {
  for (const each of [plain, quantized, onnx, tfjs]) each.dispose();
});

/** Two rows of different length, one of them with two segments. */
const BATCH = batchOf([
  [{ tokens: [5, 9, 3, 17, 8] }, { tokens: [4, 11, 2] }],
  [{ tokens: [7, 21, 13, 6, 30, 2] }],
]);
const weigh = (logprobs: Float32Array): Float32Array => logprobs.map((_, i) => 1 - 0.3 * i);

async function step(
  backend: Backend,
  { artifact }: TinyModel,
  options: MethodOptions,
  frozenWeights: FrozenWeights,
) {
  const tokenizer = { encode: () => [1], chatTemplateHash: CHAT_TEMPLATE_HASH };
  const context = { base: artifact.manifest, artifact, tokenizer, backend };
  const method = await createMethod(options, context, 11);
  const random = randomStream(12);
  for (const { values } of method.parameters)
    for (let i = 0; i < values.length; i++) values[i]! += 0.2 * (random() - 0.5);
  const model = createTrainingModel({
    artifact,
    arch: artifact.manifest.architecture,
    method,
    backend,
    frozenWeights,
    precision: 'f32',
    gradientCheckpointing: true,
    yieldPoint: () => Promise.resolve(),
  });
  const logprobs = await model.accumulate(BATCH, weigh, 3);
  const gradients = method.parameters.map(({ name, gradient }) => [name, gradient.slice()] as const);
  await model.dispose();
  return { logprobs, gradients };
}

/** Relative to the largest element. */
function assertNear(actual: Float32Array, expected: Float32Array, name: string): void {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert(largest > 0 && actual.length === expected.length, `${name}: nothing to compare`);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i]!)), 0);
  assert(worst <= TOLERANCE * largest, `${name} is off by ${worst / largest} of its largest element`);
}

async function assertEqualSteps(
  model: TinyModel,
  options: MethodOptions,
  weights: FrozenWeights,
): Promise<void> {
  const expected = await step(onnx, model, options, weights);
  const actual = await step(tfjs, model, options, weights);
  assertNear(actual.logprobs, expected.logprobs, 'log-probabilities');
  expected.gradients.forEach(([name, gradient], i) => assertNear(actual.gradients[i]![1], gradient, name));
}

for (const [name, options] of Object.entries({ ...ADAPTER_METHODS, full: { name: 'full' } as const }))
  test(`${name}: a step equals that of ONNX Runtime`, () => assertEqualSteps(plain, options, 'f32'));

for (const weights of ['int4', 'nf4'] as const)
  test(`lora on ${weights} weights: a step equals that of ONNX Runtime`, () =>
    assertEqualSteps(quantized, ADAPTER_METHODS['lora']!, weights));
