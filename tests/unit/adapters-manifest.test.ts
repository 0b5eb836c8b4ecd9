// Adapters with a manifest (BitFit, bottlenecks): what is read, and what is refused with which key or tensor named.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPeft } from '../../src/adapters/peft.js';
import {
  PROJECTIONS,
  projectionPath,
  projectionShape,
  type Projection,
} from '../../src/model/architecture.js';
import {
  fixtureBase,
  peftFiles,
  randomTensor,
  seededRandom,
  type Tensor,
} from '../helpers/adapter-fixtures.js';
import { bottleneckConfig, bottleneckTensors, randomBottleneck } from '../helpers/random-bottleneck.js';

const base = fixtureBase('llama-tied');
const arch = base.architecture;
const SIZE = 5;
const MODEL = 'base_model.model.model';
const DOWN = `${MODEL}.layers.0.self_attn.bottleneck_down.weight`;
const UP_BIAS = `${MODEL}.layers.1.mlp.bottleneck_up.bias`;
const K0 = `${MODEL}.layers.0.self_attn.k_proj.bias_delta`;
const TARGETS: readonly Projection[] = ['k_proj', 'down_proj'];

type Config = Record<string, unknown>;
type Parts = { config: Config; tensors: Map<string, Tensor> };

function bottleneck(): Parts {
  const adapter = randomBottleneck(arch, 3, { size: SIZE });
  return { config: bottleneckConfig(arch, SIZE), tensors: bottleneckTensors(adapter) };
}

function bitfit(targets: readonly Projection[] = TARGETS): Parts {
  const random = seededRandom(4);
  const tensors = new Map<string, Tensor>();
  for (let layer = 0; layer < arch.numLayers; layer++)
    for (const projection of targets) {
      const [out] = projectionShape(arch, projection);
      tensors.set(
        `${MODEL}.layers.${layer}.${projectionPath(projection)}.bias_delta`,
        randomTensor([out], random),
      );
    }
  const config = {
    format: 'adapter-manifest/1',
    method: 'bitfit',
    base_model_name_or_path: 'tiny',
    num_layers: arch.numLayers,
    hidden_size: arch.hiddenSize,
    target_modules: targets,
  };
  return { config, tensors };
}

const read = ({ config, tensors }: Parts, metadata: Record<string, string> = {}) =>
  readPeft(peftFiles(config, tensors, metadata), base);

test('a bottleneck has the values of its file, transposed', async () => {
  const { content, facts } = await read(bottleneck());
  const expected = randomBottleneck(arch, 3, { size: SIZE });
  assert(content.kind === 'bottleneck');
  assert.deepEqual(content.layers, expected.layers);
  const numbers = arch.numLayers * 2 * (2 * SIZE * arch.hiddenSize + SIZE + arch.hiddenSize);
  assert.equal(content.sizeBytes, 4 * numbers);
  assert.equal(content.size, SIZE);
  const { hash, sizeBytes, ...rest } = facts;
  assert.equal(hash, content.hash);
  assert(sizeBytes > 4 * numbers);
  assert.deepEqual(rest, {
    peftType: 'BOTTLENECK',
    servedAs: 'bottleneck',
    rank: null,
    targetModules: ['down_proj', 'o_proj'],
    numVirtualTokens: null,
  });
});

test('BitFit has its vectors on the targets and nothing elsewhere', async () => {
  const parts = bitfit();
  const { content, facts } = await read(parts);
  assert(content.kind === 'lora');
  assert.deepEqual([facts.peftType, facts.servedAs, facts.rank], ['BITFIT', 'lora', 0]);
  assert.deepEqual(facts.targetModules, ['down_proj', 'k_proj']);
  content.layers.forEach(({ lora, affine }, layer) => {
    assert.deepEqual(lora, {});
    assert.deepEqual(Object.keys(affine).toSorted(), ['down_proj', 'k_proj']);
    for (const projection of TARGETS) {
      const name = `${MODEL}.layers.${layer}.${projectionPath(projection)}.bias_delta`;
      const bias = parts.tensors.get(name)!.data;
      assert.deepEqual(affine[projection], { outScale: null, inScale: null, bias });
    }
  });
});

test('BitFit on every projection, and by all-linear', async () => {
  const parts = bitfit(PROJECTIONS);
  const named = await read(parts);
  const all = await read({ ...parts, config: { ...parts.config, target_modules: 'all-linear' } });
  assert.deepEqual(all.facts.targetModules, [...PROJECTIONS].toSorted());
  assert.deepEqual(all.facts.targetModules, named.facts.targetModules);
});

interface Refused {
  readonly title: string;
  readonly make: () => Parts;
  readonly change: (parts: Parts) => void;
  readonly code: 'unsupported_adapter' | 'invalid_adapter' | 'adapter_base_mismatch';
  readonly param: string;
  readonly message: RegExp;
}
const unsupported = { code: 'unsupported_adapter' } as const;
const invalid = { code: 'invalid_adapter' } as const;
const mismatch = { code: 'adapter_base_mismatch' } as const;

function setKey(key: string, value: unknown) {
  return ({ config }: Parts) => {
    config[key] = value;
  };
}
function setShape(name: string, shape: readonly number[]) {
  return ({ tensors }: Parts) => tensors.set(name, randomTensor(shape, seededRandom(1)));
}
function zero(pattern: RegExp) {
  return ({ tensors }: Parts) => {
    for (const [name, { data }] of tensors) if (pattern.test(name)) data.fill(0);
  };
}

const CASES: readonly Refused[] = [
  ...(['bottleneck', 'bitfit'] as const).map((method) => ({
    title: `${method}: an unknown key`,
    make: method === 'bitfit' ? bitfit : bottleneck,
    change: setKey('scaling', 2),
    ...unsupported,
    param: 'scaling',
    message: new RegExp(`\`scaling\` is 2: a manifest of ${method} has the keys format, method`),
  })),
  {
    title: "a key of the other method, though it is PEFT's word for off",
    make: bitfit,
    change: setKey('bottleneck_size', null),
    ...unsupported,
    param: 'bottleneck_size',
    message: /`bottleneck_size` is null/,
  },
  {
    title: 'a later format',
    make: bottleneck,
    change: setKey('format', 'adapter-manifest/2'),
    ...unsupported,
    param: 'format',
    message: /Expected `format` to be adapter-manifest\/1, got "adapter-manifest\/2"/,
  },
  {
    title: 'another method',
    make: bottleneck,
    change: setKey('method', 'parallel'),
    ...unsupported,
    param: 'method',
    message: /Expected `method` to be bitfit or bottleneck, got "parallel"/,
  },
  {
    title: 'another activation',
    make: bottleneck,
    change: setKey('activation', 'relu'),
    ...unsupported,
    param: 'activation',
    message: /Expected `activation` to be silu, got "relu"/,
  },
  {
    title: 'no size',
    make: bottleneck,
    change: setKey('bottleneck_size', undefined),
    ...invalid,
    param: 'bottleneck_size',
    message: /Expected `bottleneck_size` to be a positive integer/,
  },
  {
    title: 'another size than the tensors have',
    make: bottleneck,
    change: setKey('bottleneck_size', SIZE + 1),
    ...invalid,
    param: DOWN,
    message: /to have shape \[6, \d+\], got \[5, \d+\]; the file and the configuration disagree/,
  },
  {
    title: 'a base of another width, by the manifest',
    make: bottleneck,
    change: setKey('hidden_size', 77),
    ...mismatch,
    param: 'hidden_size',
    message: /`hidden_size` is 77, the base has 64/,
  },
  {
    title: 'a base of another width, by a tensor',
    make: bottleneck,
    change: setShape(UP_BIAS, [77]),
    ...mismatch,
    param: UP_BIAS,
    message: /to have shape \[64\], got \[77\]/,
  },
  {
    title: 'a base with another number of layers',
    make: bitfit,
    change: setKey('num_layers', 9),
    ...mismatch,
    param: 'num_layers',
    message: /`num_layers` is 9, the base has 2/,
  },
  {
    title: 'a missing tensor of a bottleneck',
    make: bottleneck,
    change: ({ tensors }) => tensors.delete(UP_BIAS),
    ...invalid,
    param: UP_BIAS,
    message: /of shape \[64\] is missing/,
  },
  {
    title: 'a missing vector of BitFit',
    make: bitfit,
    change: ({ tensors }) => tensors.delete(K0),
    ...invalid,
    param: K0,
    message: /of shape \[\d+\] is missing/,
  },
  {
    title: 'a vector of another length',
    make: bitfit,
    change: setShape(K0, [3]),
    ...mismatch,
    param: K0,
    message: /to have shape \[\d+\], got \[3\]/,
  },
  {
    title: 'a tensor that nothing asks for',
    make: bottleneck,
    change: setShape(K0, [32]),
    ...invalid,
    param: K0,
    message: /unexpected tensor/,
  },
  {
    title: 'a value that is not finite',
    make: bottleneck,
    change: ({ tensors }) => tensors.get(DOWN)!.data.fill(Number.NaN, 7, 8),
    ...invalid,
    param: DOWN,
    message: /holds NaN at index 7/,
  },
  {
    title: 'BitFit without targets',
    make: bitfit,
    change: setKey('target_modules', undefined),
    ...invalid,
    param: 'target_modules',
    message: /selects no module of the base/,
  },
  {
    title: 'BitFit on a norm',
    make: bitfit,
    change: setKey('target_modules', ['k_proj', 'down_proj', 'input_layernorm']),
    ...unsupported,
    param: 'target_modules',
    message: /selects model\.layers\.0\.input_layernorm/,
  },
  ...(
    [
      ['a bottleneck at its start (up is zero)', bottleneck, /_up\./],
      ['a bottleneck that has units without input', bottleneck, /_down\.|_up\.bias/],
      ['BitFit at its start', bitfit, /./],
    ] as const
  ).map(([title, make, pattern]) => ({
    title: `${title} is a no-op`,
    make,
    change: zero(pattern),
    ...invalid,
    param: 'adapter_model.safetensors',
    message: /changes nothing/,
  })),
];

for (const { title, make, change, code, param, message } of CASES)
  test(`refused: ${title}`, async () => {
    const parts = make();
    change(parts);
    await assert.rejects(read(parts), { code, param, message });
  });

test('a bottleneck with nothing but an output bias has an effect', async () => {
  const parts = bottleneck();
  zero(/weight|_down\.bias/)(parts);
  assert.equal((await read(parts)).facts.servedAs, 'bottleneck');
});

test("the chat template's hash is compared where the file and the base have one", async () => {
  const parts = bitfit();
  const [own, other] = ['c'.repeat(64), 'd'.repeat(64)];
  const files = peftFiles(parts.config, parts.tensors, { chat_template_sha256: own });
  for (const chatTemplateHash of [own, undefined])
    await readPeft(files, { ...base, ...(chatTemplateHash === undefined ? {} : { chatTemplateHash }) });
  await readPeft(peftFiles(parts.config, parts.tensors), { ...base, chatTemplateHash: other });
  await assert.rejects(readPeft(files, { ...base, chatTemplateHash: other }), {
    code: 'adapter_base_mismatch',
    param: 'chat_template_sha256',
    message: new RegExp(`${own}.*${other}`),
  });
  await assert.rejects(readPeft(files, { ...base, chatTemplateHash: null }), {
    code: 'adapter_base_mismatch',
    message: /that of llama-tied is none/,
  });
});
