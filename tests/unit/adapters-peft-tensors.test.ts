// Every tensor that a method has, one at a time: missing, of another shape along each axis, or with a value that is not finite, it is
// refused by its key, with both shapes or the place. And what is left when all updates are zero.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPeft } from '../../src/adapters/peft.js';
import {
  adapterFiles,
  fixtureBase,
  fixtureConfig,
  peftFiles,
  readTensors,
  storedMatrix,
  type Tensor,
} from '../helpers/adapter-fixtures.js';

const ADAPTERS = [
  ['llama-tied', 'lora-qv-r8'],
  ['llama-tied', 'lora-lorabias'],
  ['llama-tied', 'dora-all-r8'],
  ['llama-bias', 'lora-bias-all'],
  ['llama-tied', 'ia3'],
  ['llama-tied', 'loha'],
  ['llama-tied', 'prefix-8'],
  ['llama-tied', 'prompt-8'],
] as const;

type Tensors = Map<string, Tensor>;

function fixtureTensors(baseName: string, name: string): Tensors {
  return readTensors(adapterFiles(baseName, name).get('adapter_model.safetensors')!);
}

function read(baseName: string, name: string, tensors: Tensors) {
  return readPeft(peftFiles(fixtureConfig(baseName, name), tensors), fixtureBase(baseName));
}

/** One key of each projection and parameter: those of the first layer. */
function firstLayer(tensors: Tensors): string[] {
  return [...tensors.keys()].filter((key) => !/\.layers\.[^0]/.test(key));
}

const filled = (shape: readonly number[], value: number): Tensor => ({
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(value),
});
const shapeText = (shape: readonly number[]) => `[${shape.join(', ')}]`;

/** An error whose message holds all of the texts. */
function refusal(code: string, param: string, ...texts: readonly string[]) {
  return (error: Error & { code?: string; param?: string }): boolean => {
    assert.equal(error.code, code, error.message);
    assert.equal(error.param, param, error.message);
    for (const text of texts) assert.ok(error.message.includes(text), `${error.message} lacks ${text}`);
    return true;
  };
}

for (const [baseName, name] of ADAPTERS) {
  const original = fixtureTensors(baseName, name);
  const config = fixtureConfig(baseName, name);
  /** Sizes that the configuration decides; no size of the base is like them. */
  const ownSizes = [1, config['r'], config['num_virtual_tokens']];

  test(`${name}: a missing tensor is refused by its key and shape`, async () => {
    for (const key of firstLayer(original)) {
      const tensors = new Map(original);
      tensors.delete(key);
      if (tensors.size === 0) tensors.set('base_model.model.model.other', filled([1], 1));
      const wanted = `tensor \`${key}\` of shape ${shapeText(original.get(key)!.shape)} is missing`;
      await assert.rejects(read(baseName, name, tensors), refusal('invalid_adapter', key, wanted));
    }
  });

  test(`${name}: a tensor of another shape is refused by its key with both shapes`, async () => {
    for (const key of firstLayer(original)) {
      const { shape } = original.get(key)!;
      for (const axis of shape.keys()) {
        const wrong = shape.map((size, at) => (at === axis ? size + 1 : size));
        const tensors = new Map(original).set(key, filled(wrong, 0.5));
        const code = ownSizes.includes(shape[axis]) ? 'invalid_adapter' : 'adapter_base_mismatch';
        const text = `\`${key}\` to have shape ${shapeText(shape)}, got ${shapeText(wrong)}`;
        await assert.rejects(read(baseName, name, tensors), refusal(code, key, text));
      }
    }
  });

  test(`${name}: a value that is not finite is refused by its key and place`, async () => {
    for (const key of firstLayer(original))
      for (const value of [Number.NaN, Infinity]) {
        const { shape, data } = original.get(key)!;
        const tensors = new Map(original).set(key, { shape, data: data.with(3, value) });
        const text = `\`${key}\` holds ${value} at index 3`;
        await assert.rejects(read(baseName, name, tensors), refusal('invalid_adapter', key, text));
      }
  });

  test(`${name}: a tensor beside its own is refused by its key`, async () => {
    const key = `${[...original.keys()][0]!}.more`;
    const tensors = new Map(original).set(key, filled([2, 3], 1));
    const reason = key.startsWith('base_model.')
      ? 'nothing in the configuration asks for it'
      : "PEFT's names begin";
    await assert.rejects(
      read(baseName, name, tensors),
      refusal('invalid_adapter', key, `\`${key}\``, reason),
    );
  });
}

const Q0 = 'base_model.model.model.layers.0.self_attn.q_proj';

test('lokr: both factors are checked against the shape that their product must have', async () => {
  for (const [key, shape, product] of [
    [`${Q0}.lokr_w1`, [9, 8], [72, 64]],
    [`${Q0}.lokr_w2`, [8, 4], [64, 32]],
  ] as const) {
    const tensors = fixtureTensors('llama-tied', 'lokr').set(key, filled(shape, 0.5));
    const texts = ['layers.0.self_attn.q_proj', `shape ${shapeText(product)}, the base has [64, 64]`];
    await assert.rejects(
      read('llama-tied', 'lokr', tensors),
      refusal('adapter_base_mismatch', `${Q0}.lokr_w1`, ...texts),
    );
  }
});

test('lokr: thin factors of another rank than configured are refused with both shapes', async () => {
  const tensors = fixtureTensors('llama-tied', 'lokr');
  tensors.delete(`${Q0}.lokr_w2`);
  tensors.set(`${Q0}.lokr_w2_a`, filled([8, 3], 0.5)).set(`${Q0}.lokr_w2_b`, filled([3, 8], 0.5));
  await assert.rejects(
    read('llama-tied', 'lokr', tensors),
    refusal('invalid_adapter', `${Q0}.lokr_w2_a`, 'to have shape [8, 4], got [8, 3]'),
  );
});

test('lokr: a factor that is missing, not finite or no matrix is refused by its key', async () => {
  const tensors = () => fixtureTensors('llama-tied', 'lokr');
  const missing = tensors();
  missing.delete(`${Q0}.lokr_w1`);
  const withValue = tensors().set(`${Q0}.lokr_w2`, filled([8, 8], Number.NaN));
  const flat = tensors().set(`${Q0}.lokr_w2`, filled([64], 1));
  for (const [given, key, text] of [
    [missing, `${Q0}.lokr_w1`, 'has neither `lokr_w1`'],
    [withValue, `${Q0}.lokr_w2`, 'holds NaN at index 0'],
    [flat, `${Q0}.lokr_w2`, 'to have shape [rows, columns], got [64]'],
  ] as const)
    await assert.rejects(read('llama-tied', 'lokr', given), refusal('invalid_adapter', key, text));
});

test('DoRA of a row without a length is refused, naming module and row', async () => {
  const base = fixtureBase('llama-tied');
  const weight = base
    .weight('layers.0.self_attn.q_proj')
    .slice()
    .fill(0, 5 * 64, 6 * 64);
  const zeroRow = storedMatrix({ shape: [64, 64], data: weight });
  const matrix = (name: string) => (name === 'layers.0.self_attn.q_proj' ? zeroRow : base.matrix(name));
  const tensors = fixtureTensors('llama-tied', 'dora-all-r8');
  const { shape, data } = tensors.get(`${Q0}.lora_B.weight`)!;
  tensors.set(`${Q0}.lora_B.weight`, { shape, data: data.slice().fill(0, 5 * 8, 6 * 8) });
  const files = peftFiles(fixtureConfig('llama-tied', 'dora-all-r8'), tensors);
  await assert.rejects(
    readPeft(files, { ...base, matrix }),
    refusal('invalid_adapter', 'use_dora', 'row 5 of model.layers.0.self_attn.q_proj has length 0'),
  );
});

/** Adapter -> the tensors that make its updates zero. */
const ZEROED: readonly (readonly [base: string, name: string, zeroed: RegExp])[] = [
  ['llama-tied', 'lora-qv-r8', /lora_A/],
  ['llama-tied', 'lora-qv-r8', /lora_B/],
  ['llama-tied', 'lora-lorabias', /lora_B/],
  ['llama-tied', 'loha', /hada_w1_a/],
  ['llama-tied', 'loha', /hada_w2_b/],
  ['llama-tied', 'lokr', /lokr_w1/],
  ['llama-tied', 'lokr', /lokr_w2/],
];

for (const [baseName, name, zeroed] of ZEROED)
  test(`${name} with ${zeroed.source} all zero changes nothing and is refused`, async () => {
    const tensors = fixtureTensors(baseName, name);
    for (const [key, { shape }] of tensors) if (zeroed.test(key)) tensors.set(key, filled(shape, 0));
    const file = 'adapter_model.safetensors';
    await assert.rejects(
      read(baseName, name, tensors),
      refusal('invalid_adapter', file, file, 'changes nothing: all its updates are zero'),
    );
  });

test('trained biases that are those of the base change nothing', async () => {
  const base = fixtureBase('llama-bias');
  const tensors = fixtureTensors('llama-bias', 'lora-bias-all');
  for (const [key, { shape }] of tensors) {
    if (key.includes('lora_B')) tensors.set(key, filled(shape, 0));
    const module = /model\.(layers\.\d+\.\w+\.\w+_proj)\.(?:base_layer\.)?bias$/.exec(key)?.[1];
    if (module !== undefined) tensors.set(key, { shape, data: base.bias(module)! });
  }
  await assert.rejects(
    read('llama-bias', 'lora-bias-all', tensors),
    refusal('invalid_adapter', 'adapter_model.safetensors', 'changes nothing'),
  );
});

test('the name of the base in the configuration is not compared: shapes, layers and the hash decide', async () => {
  const config = {
    ...fixtureConfig('llama-tied', 'lora-qv-r8'),
    base_model_name_or_path: '/elsewhere/other',
  };
  const { content } = await readPeft(
    peftFiles(config, fixtureTensors('llama-tied', 'lora-qv-r8')),
    fixtureBase('llama-tied'),
  );
  assert.equal(content.kind, 'lora');
});
