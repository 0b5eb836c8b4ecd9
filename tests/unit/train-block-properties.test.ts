// What a training model must keep whatever it trains: the base where an adapter does nothing, each example's values in any company,
// and equal bits for equal calls.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { TrainingBatch } from '../../src/data/types.js';
import { createFullMethod } from '../../src/train/methods/full.js';
import { createLoraMethod } from '../../src/train/methods/lora.js';
import type { Backend, TrainingMethod, TrainingModel } from '../../src/train/types.js';
import { fixedMethod } from '../helpers/fixed-method.js';
import { assertClose, centralDifferences, sequence, spread } from '../helpers/gradient-check.js';
import { batchOf, type Segment } from '../helpers/train-fixtures.js';
import { LORA_R8, trainingBase } from '../helpers/training-model.js';

const base = await trainingBase('llama-tied');
const untied = await trainingBase('llama-untied');
after(async () => {
  await base.close();
  await untied.close();
});

const random = sequence(3);
const example = (length: number): Segment => ({
  tokens: Array.from({ length }, () => 4 + Math.floor(random() * 300)),
});
const [FIRST, SECOND, THIRD] = [example(9), example(14), example(5)];
const PACKED = batchOf([[FIRST, SECOND, THIRD]]);
const ALONE = batchOf([[FIRST], [SECOND], [THIRD]]);

/** B is not zero, so that everything has a gradient. */
function trainedLora(dropout = 0): TrainingMethod {
  const method = createLoraMethod(base.artifact.manifest, { ...LORA_R8, dropout }, 5);
  const draw = sequence(11);
  for (const { name, values } of method.parameters)
    if (name.includes('lora_B')) values.forEach((_, i) => (values[i] = (draw() - 0.5) / 5));
  return method;
}

interface Outcome {
  readonly logprobs: Float32Array;
  readonly gradients: readonly Float32Array[];
}

/** Weights differ from token to token. */
const weigh = (logprobs: Float32Array): Float32Array => logprobs.map((_, i) => Math.cos(i));

async function accumulate(
  model: TrainingModel,
  batch: TrainingBatch,
  seed: number | null = null,
): Promise<Outcome> {
  for (const { gradient } of model.parameters) gradient.fill(0);
  const logprobs = await model.accumulate(batch, weigh, seed);
  return { logprobs, gradients: model.parameters.map(({ gradient }) => gradient.slice()) };
}

function assertSimilar(actual: Outcome, expected: Outcome): void {
  assertClose(actual.logprobs, expected.logprobs, 1e-5, 'log-probabilities');
  actual.gradients.forEach((gradient, i) =>
    assertClose(gradient, expected.gradients[i]!, 1e-4, `gradient ${i}`),
  );
}

test('an adapter whose B is zero leaves the base’s log-probabilities as they are, bit for bit', async () => {
  const model = base.model(createLoraMethod(base.artifact.manifest, LORA_R8, 5));
  assert.deepEqual(await model.logprobs(PACKED), await model.logprobs(PACKED, { reference: true }));
});

test('the reference is the base, whatever was trained', async () => {
  const model = base.model(trainedLora());
  const reference = await model.logprobs(PACKED, { reference: true });
  assert.notDeepEqual(await model.logprobs(PACKED), reference);
  assert.deepEqual(reference, await base.model(fixedMethod({}, noInputs())).logprobs(PACKED));
});

test('forward alone and forward with backward give the same log-probabilities', async () => {
  const model = base.model(trainedLora());
  const { logprobs } = await accumulate(model, ALONE);
  assertClose(await model.logprobs(ALONE), logprobs, 1e-6, 'log-probabilities');
});

test('examples packed into a row have the values and gradients of examples in rows of their own', async () => {
  const model = base.model(trainedLora());
  assertSimilar(await accumulate(model, PACKED), await accumulate(model, ALONE));
});

test('packed examples with virtual tokens and with a prefix are those in rows of their own', async () => {
  const { arch } = base;
  const draw = (size: number): Float32Array => Float32Array.from({ length: size }, () => random() - 0.5);
  const size = arch.numKvHeads * 3 * arch.headDim;
  const prefix = Array.from(
    { length: arch.numLayers },
    () =>
      new Map([
        ['prefix.k', draw(size)],
        ['prefix.v', draw(size)],
      ]),
  );
  const methods = [
    fixedMethod({ numPrefixTokens: 3 }, { ...noInputs(), blocks: prefix }),
    fixedMethod({}, { ...noInputs(), virtualTokens: draw(3 * arch.hiddenSize) }),
  ];
  for (const method of methods) {
    const model = base.model(method);
    const packed = await accumulate(model, PACKED);
    assertSimilar(packed, await accumulate(model, ALONE));
    assert(packed.gradients.every((gradient) => gradient.some((value) => Math.abs(value) > 1e-4)));
  }
});

test('padding changes nothing', async () => {
  const model = base.model(trainedLora());
  const rows = [[FIRST], [SECOND]];
  assertSimilar(await accumulate(model, batchOf(rows, 60)), await accumulate(model, batchOf(rows)));
});

test('rows that are too many for one run give the sum over the runs', async () => {
  const model = base.model(trainedLora());
  const rows = Array.from({ length: 5 }, () => [example(200)]);
  const whole = await accumulate(model, batchOf(rows));
  const logprobs: number[] = [];
  for (const { gradient } of model.parameters) gradient.fill(0);
  for (const row of rows) {
    const start = logprobs.length;
    const shifted = (values: Float32Array) => values.map((_, i) => Math.cos(start + i));
    logprobs.push(...(await model.accumulate(batchOf([row]), shifted, null)));
  }
  const gradients = model.parameters.map(({ gradient }) => gradient);
  assertSimilar(whole, { logprobs: Float32Array.from(logprobs), gradients });
});

test('without gradient checkpointing the gradients are the same, with dropout too', async () => {
  const [kept, recomputed] = [false, true].map((gradientCheckpointing) =>
    base.model(trainedLora(0.2), { gradientCheckpointing }),
  );
  assertSimilar(await accumulate(kept!, PACKED, 7), await accumulate(recomputed!, PACKED, 7));
});

test('equal seeds give equal bits, other seeds and no seed other dropout', async () => {
  const model = base.model(trainedLora(0.2));
  const first = await accumulate(model, ALONE, 7);
  assert.deepEqual(await accumulate(model, ALONE, 7), first);
  assert.notDeepEqual((await accumulate(model, ALONE, 8)).logprobs, first.logprobs);
  const plain = await accumulate(model, ALONE, null);
  assert.notDeepEqual(plain.logprobs, first.logprobs);
  assertClose(plain.logprobs, await model.logprobs(ALONE), 1e-6, 'log-probabilities without dropout');
});

test('dropout keeps the expectation', async () => {
  const model = base.model(trainedLora(0.5));
  const plain = await model.logprobs(ALONE);
  const mean = new Float64Array(plain.length);
  const reference = await model.logprobs(ALONE, { reference: true });
  const numDraws = 40;
  for (let seed = 0; seed < numDraws; seed++)
    (await accumulate(model, ALONE, seed)).logprobs.forEach((value, i) => (mean[i]! += value / numDraws));
  const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Math.hypot(...Array.from(a, (value, i) => value - b[i]!));
  assert(distance(mean, plain) < 0.5 * distance(reference, plain), 'the mean is far from the plain values');
});

test('a batch without labels adds nothing', async () => {
  const model = base.model(trainedLora());
  const { logprobs, gradients } = await accumulate(model, batchOf([[{ tokens: [5], labels: [-100] }]]));
  assert.equal(logprobs.length, 0);
  assert(gradients.every((gradient) => gradient.every((value) => value === 0)));
});

for (const [title, each] of [
  ['tied', base],
  ['untied', untied],
] as const)
  test(`full fine-tuning, ${title} head: gradients of both ends equal central differences`, async () => {
    const model = each.model(createFullMethod(each.artifact.manifest, each.artifact));
    const batch = batchOf([[FIRST, THIRD]]);
    const loss = async (): Promise<number> => {
      const logprobs = await model.logprobs(batch);
      const weights = weigh(logprobs);
      return logprobs.reduce((sum, value, i) => sum + value * weights[i]!, 0);
    };
    const { gradients } = await accumulate(model, batch);
    const ends = model.parameters.filter(({ name }) => !name.includes('layers.'));
    assert.equal(ends.length, title === 'tied' ? 2 : 3);
    for (const { name, values, gradient } of ends) {
      const rowOf = (token: number) => Math.min(token * 64, values.length - 64);
      const some = [...spread(values.length, 4), ...spread(64, 4).map((i) => rowOf(FIRST.tokens[2]!) + i)];
      const expected = await centralDifferences(values, loss, 1 / 512, some);
      assertClose(
        some.map((i) => gradient[i]!),
        expected,
        1e-2,
        name,
      );
    }
    assert(gradients.every((gradient) => gradient.some((value) => value !== 0)));
  });

test('the arrays that results are written to are used again in the next step', async () => {
  const seen = new Set<ArrayBufferLike>();
  const backend: Backend = {
    ...base.backend,
    async compile(graph) {
      const executor = await base.backend.compile(graph);
      return {
        dispose: () => executor.dispose(),
        run(inputs, outputs, into) {
          for (const { buffer } of into!.values()) seen.add(buffer);
          return executor.run(inputs, outputs, into);
        },
      };
    },
  };
  const model = base.model(trainedLora(), { backend, gradientCheckpointing: false });
  for (let step = 0; step < 2; step++) await accumulate(model, ALONE);
  const count = seen.size;
  assert(count > 0);
  for (let step = 0; step < 3; step++) await accumulate(model, ALONE);
  assert.equal(seen.size, count);
});

test('a disposed model leaves no native objects behind', async () => {
  const other = await trainingBase('llama-tied');
  const method = createLoraMethod(other.artifact.manifest, LORA_R8, 5);
  const model = other.model(method);
  await accumulate(model, ALONE);
  await model.logprobs(PACKED, { reference: true });
  assert(other.runtime.liveHandles > 0);
  await model.dispose();
  assert.equal(other.runtime.liveHandles, 0);
  await other.close();
});

function noInputs() {
  const blocks = Array.from({ length: base.arch.numLayers }, () => new Map<string, Float32Array>());
  return { blocks, virtualTokens: null, ends: null };
}
