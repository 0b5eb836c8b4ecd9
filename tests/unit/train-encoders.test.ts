// The encoders of prefix tuning and P-tuning: what they give, and their gradients against central differences.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Artifact } from '../../src/model/artifact-reader.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { createMethod } from '../../src/train/methods/create-method.js';
import type { MethodBase } from '../../src/train/methods/peft-files.js';
import { createPrefixTuningMethod } from '../../src/train/methods/prefix-tuning.js';
import { createPTuningMethod } from '../../src/train/methods/p-tuning.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import type { MethodOptions } from '../../src/train/options.js';
import type { MethodGradients, MethodInputs, TrainingMethod } from '../../src/train/types.js';
import { fixtureBase } from '../helpers/adapter-fixtures.js';
import { assertClose, centralDifferences, sequence } from '../helpers/gradient-check.js';

const runtime = new Runtime();
const backend = createOnnxBackend(runtime, 1);
after(() => {
  backend.dispose();
  assert.equal(runtime.liveHandles, 0);
});

/** Small enough that every parameter can be moved. */
const base: MethodBase = {
  architecture: { ...fixtureBase('llama-tied').architecture, hiddenSize: 6, numKvHeads: 2, headDim: 2 },
  baseHash: 'b'.repeat(64),
  name: 'tiny',
};
const TOLERANCE = 2e-3;
/** Large, so that the gradients far from the output are not lost in the tolerance. */
const GRADIENT_SIZE = 10;
/** Of the differences. Short where a unit of a ReLU must not cross zero on the way, else long against the rounding. */
const stepOf = (options: MethodOptions): number =>
  options.name === 'p_tuning' && options.encoder === 'mlp' ? 2 ** -11 : 2 ** -9;

const CASES: Readonly<Record<string, MethodOptions & { readonly numVirtualTokens: number }>> = {
  'prefix through an MLP': { name: 'prefix_tuning', numVirtualTokens: 3, projection: { hidden: 5 } },
  'prefix as it is': { name: 'prefix_tuning', numVirtualTokens: 3, projection: null },
  'P-tuning with an MLP': { name: 'p_tuning', numVirtualTokens: 3, encoder: 'mlp', hidden: 4 },
  'P-tuning with an LSTM': { name: 'p_tuning', numVirtualTokens: 4, encoder: 'lstm', hidden: 3 },
  'P-tuning with an LSTM over one token': {
    name: 'p_tuning',
    numVirtualTokens: 1,
    encoder: 'lstm',
    hidden: 2,
  },
};

function make(options: MethodOptions, seed = 3): Promise<TrainingMethod> {
  if (options.name === 'prefix_tuning') return createPrefixTuningMethod(base, options, seed, backend);
  assert(options.name === 'p_tuning');
  return createPTuningMethod(base, options, seed, backend);
}

/** Everything that the method gives to the model, one after the other. */
function flat({ blocks, virtualTokens }: MethodInputs | MethodGradients): Float32Array[] {
  const parts = blocks.flatMap((block) => [...block.values()]);
  return virtualTokens === null ? parts : [...parts, virtualTokens];
}

function randomGradients(inputs: MethodInputs): MethodGradients {
  const next = sequence(5);
  const like = (values: Float32Array) => values.map(() => GRADIENT_SIZE * (2 * next() - 1));
  return {
    blocks: inputs.blocks.map((block) => new Map([...block].map(([name, values]) => [name, like(values)]))),
    virtualTokens: inputs.virtualTokens === null ? null : like(inputs.virtualTokens),
    ends: null,
  };
}

for (const [title, options] of Object.entries(CASES)) {
  test(`${title}: gradients equal central differences`, async () => {
    const method = await make(options);
    const gradients = randomGradients(await method.inputs());
    const weights = flat(gradients);
    const loss = async () =>
      flat(await method.inputs()).reduce(
        (total, values, i) => values.reduce((sum, value, j) => sum + value * weights[i]![j]!, total),
        0,
      );
    for (const { gradient } of method.parameters) gradient.fill(1);
    await method.backward(gradients);
    for (const { name, values, gradient } of method.parameters) {
      const expected = await centralDifferences(values, loss, stepOf(options));
      const added = gradient.map((value) => value - 1);
      assertClose(added, expected, TOLERANCE, name);
      // The states before the first token are zero.
      const isIdle = name.includes('weight_hh') && options.numVirtualTokens === 1;
      assert.equal(
        added.every((each) => Math.abs(each) < TOLERANCE),
        isIdle,
        name,
      );
    }
  });

  test(`${title}: a seed decides everything`, async () => {
    const [first, again, other] = [await make(options), await make(options), await make(options, 4)];
    assert.deepEqual(flat(await again.inputs()), flat(await first.inputs()));
    assert.notDeepEqual(flat(await other.inputs()), flat(await first.inputs()));
    const names = first.parameters.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const { name, values } of first.parameters)
      assert(
        values.some((value) => value !== 0),
        `${name} begins at zero`,
      );
  });
}

test("the LSTM is PyTorch's: one step of one unit by hand", async () => {
  const options: MethodOptions = { name: 'p_tuning', numVirtualTokens: 1, encoder: 'lstm', hidden: 1 };
  const method = await make(options);
  const value = (name: string) =>
    method.parameters.find((parameter) => parameter.name.endsWith(name))!.values;
  const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));
  const state = (x: ArrayLike<number>, suffix: string) => {
    const weight = value(`lstm_head.weight_ih_${suffix}`);
    const z = [0, 1, 2, 3].map((gate) =>
      Array.from(x).reduce(
        (sum, each, k) => sum + each * weight[gate * x.length + k]!,
        value(`lstm_head.bias_ih_${suffix}`)[gate]! + value(`lstm_head.bias_hh_${suffix}`)[gate]!,
      ),
    );
    return sigmoid(z[3]!) * Math.tanh(sigmoid(z[0]!) * Math.tanh(z[2]!));
  };
  const both = (x: ArrayLike<number>, layer: number) => [
    state(x, `l${layer}`),
    state(x, `l${layer}_reverse`),
  ];
  const dense = (x: readonly number[], name: string) =>
    Array.from(value(`${name}.bias`), (bias, n) =>
      x.reduce((sum, each, k) => sum + each * value(`${name}.weight`)[n * x.length + k]!, bias),
    );
  const states = both(both(value('embedding.weight'), 0), 1);
  const hidden = dense(states, 'mlp_head.0').map((z) => Math.max(0, z));
  const { virtualTokens } = await method.inputs();
  assertClose(virtualTokens!, dense(hidden, 'mlp_head.2'), 1e-6, 'virtual token');
});

test('prompt tuning begins with the text, repeated or cut', async () => {
  const { hiddenSize } = base.architecture;
  const rows = (token: number) => Array.from({ length: hiddenSize }, (_, k) => 10 * token + k);
  const artifact = {
    readEmbeddingTable: () => ({
      hiddenSize,
      lookup: (tokens: number[], out: Float32Array) => out.set(tokens.flatMap(rows)),
    }),
  } as unknown as Artifact;
  const tokenizer = { encode: (text: string) => text.split('').map(Number), chatTemplateHash: null };
  const begin = async (initText: string | null, numVirtualTokens: number) => {
    const options = { name: 'prompt_tuning', numVirtualTokens, initText } as const;
    const method = await createMethod(options, { base, artifact, tokenizer, backend }, 1);
    return [...(await method.inputs()).virtualTokens!];
  };
  assert.deepEqual(await begin('12', 5), [1, 2, 1, 2, 1].flatMap(rows));
  assert.deepEqual(await begin('123', 2), [1, 2].flatMap(rows));
  await assert.rejects(begin('', 2), { code: 'invalid_value', param: 'initText' });
  const random = await begin(null, 400);
  const mean = random.reduce((sum, each) => sum + each, 0) / random.length;
  const deviation = Math.sqrt(random.reduce((sum, each) => sum + (each - mean) ** 2, 0) / random.length);
  assert(Math.abs(mean) < 2e-3 && Math.abs(deviation - 0.02) < 2e-3, `${mean}, ${deviation}`);
});
