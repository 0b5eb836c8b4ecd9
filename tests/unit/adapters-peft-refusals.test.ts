// What readPeft refuses, one test a reason: the code, the key or tensor in `param`, and the words that help.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPeft } from '../../src/adapters/peft.js';
import { PROJECTIONS } from '../../src/model/architecture.js';
import {
  adapterFiles,
  fixtureBase,
  fixtureConfig,
  peftFiles,
  randomTensor,
  readTensors,
  seededRandom,
  type Tensor,
} from '../helpers/adapter-fixtures.js';

const base = fixtureBase('llama-tied');
const Q0 = 'base_model.model.model.layers.0.self_attn.q_proj';
const V1 = 'base_model.model.model.layers.1.self_attn.v_proj';

interface Case {
  readonly title: string;
  readonly adapter?: string;
  readonly base?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tensors?: (tensors: Map<string, Tensor>) => void;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly code: 'unsupported_adapter' | 'invalid_adapter' | 'adapter_base_mismatch';
  readonly param: string;
  readonly message: RegExp;
}

function set(name: string, shape: readonly number[], value: (index: number) => number = () => 0.5) {
  return (tensors: Map<string, Tensor>) => {
    const size = shape.reduce((product, dim) => product * dim, 1);
    tensors.set(name, { shape, data: Float32Array.from({ length: size }, (_, index) => value(index)) });
  };
}
const drop = (name: string) => (tensors: Map<string, Tensor>) => {
  assert.ok(tensors.delete(name));
};
const zeroAll = (pattern: RegExp) => (tensors: Map<string, Tensor>) => {
  for (const [name, { shape }] of tensors) if (pattern.test(name)) set(name, shape, () => 0)(tensors);
};

const unsupported = { code: 'unsupported_adapter' } as const;
const invalid = { code: 'invalid_adapter' } as const;
const mismatch = { code: 'adapter_base_mismatch' } as const;

/** Keys that change the maths, each with a value that switches it on. */
const REFUSED_KEYS: Readonly<Record<string, unknown>> = {
  modules_to_save: ['lm_head'],
  trainable_token_indices: [1, 2],
  fan_in_fan_out: true,
  alora_invocation_tokens: [5],
  use_qalora: true,
  target_parameters: ['experts.down_proj'],
  layer_replication: [[0, 1]],
  megatron_config: { tensor_parallel: 2 },
  use_bdlora: { nblocks: 2 },
  arrow_config: { top_k: 2 },
  monteclora_config: { num_samples: 2 },
  kasa_config: { beta: 1 },
  init_lora_weights: 'pissa_niter_4',
  task_type: 'SEQ_CLS',
  some_new_key: 3,
  peft_type: 'ADALORA',
};

const CASES: readonly Case[] = [
  ...Object.entries(REFUSED_KEYS).map(([key, value]) => ({
    title: `${key} is refused`,
    config: { [key]: value },
    ...unsupported,
    param: key,
    message: new RegExp(`\`${key}\` is `),
  })),
  {
    title: "MLX's schema is refused",
    config: { peft_type: undefined, fine_tune_type: 'lora', lora_parameters: { rank: 8 } },
    ...unsupported,
    param: 'peft_type',
    message: /MLX's format/,
  },
  {
    title: 'no peft_type is refused',
    config: { peft_type: undefined },
    ...unsupported,
    param: 'peft_type',
    message: /`peft_type` is null: these are served: LORA, IA3/,
  },
  {
    title: 'a target that is no projection is refused',
    config: { target_modules: ['q_proj', 'v_proj', 'embed_tokens'] },
    ...unsupported,
    param: 'target_modules',
    message: /selects model\.embed_tokens/,
  },
  {
    title: 'targets that match nothing are refused',
    config: { target_modules: ['c_attn'] },
    ...invalid,
    param: 'target_modules',
    message: /\["c_attn"\] selects no module/,
  },
  {
    title: 'a pattern that is no regular expression is refused',
    config: { target_modules: '(q_proj' },
    ...invalid,
    param: 'target_modules',
    message: /"\(q_proj" is no valid regular expression/,
  },
  {
    title: 'a pattern that would match for ages is refused within its time',
    config: { rank_pattern: { '([a-z._0-9]+)+X': 4 } },
    ...unsupported,
    param: 'rank_pattern',
    message: /takes more than 200 ms/,
  },
  {
    title: 'layers_to_transform with a pattern as target is refused',
    config: { target_modules: '.*q_proj', layers_to_transform: [0] },
    ...invalid,
    param: 'layers_to_transform',
    message: /need `target_modules` to be a list/,
  },
  {
    title: 'a rank that is no count is refused',
    config: { r: 0 },
    ...invalid,
    param: 'r',
    message: /Expected `r` to be a positive integer, got 0/,
  },
  {
    title: 'an alpha that is no number is refused',
    config: { alpha_pattern: { q_proj: '4' } },
    ...invalid,
    param: 'alpha_pattern.q_proj',
    message: /to be a finite number, got "4"/,
  },
  {
    title: 'a flag that is no flag is refused',
    config: { use_dora: 'yes' },
    ...invalid,
    param: 'use_dora',
    message: /to be true or false, got "yes"/,
  },
  {
    title: 'a bias that PEFT does not know is refused',
    config: { bias: 'some' },
    ...invalid,
    param: 'bias',
    message: /none, all or lora_only, got "some"/,
  },
  {
    title: 'DoRA with a bias of B is refused',
    config: { use_dora: true, lora_bias: true },
    ...invalid,
    param: 'lora_bias',
    message: /exclude each other/,
  },
  {
    title: 'A without B is refused',
    tensors: drop(`${Q0}.lora_B.weight`),
    ...invalid,
    param: `${Q0}.lora_B.weight`,
    message: /q_proj\.lora_B\.weight` of shape \[64, 8\] is missing/,
  },
  {
    title: 'a target without tensors is refused',
    config: { target_modules: ['q_proj', 'v_proj', 'o_proj'] },
    ...invalid,
    param: 'base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight',
    message: /of shape \[8, 64\] is missing/,
  },
  {
    title: 'an adapter of fewer layers is of another base',
    tensors: (tensors) => {
      for (const name of tensors.keys()) if (name.includes('layers.1.')) tensors.delete(name);
    },
    ...mismatch,
    param: 'base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight',
    message: /tensors for 1 layers, the base has 2/,
  },
  {
    title: 'an adapter of more layers is of another base',
    tensors: set('base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight', [8, 64]),
    ...mismatch,
    param: 'base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight',
    message: /is for layer 2, the base has 2 layers/,
  },
  {
    title: 'an adapter of another width is of another base',
    tensors: set(`${Q0}.lora_A.weight`, [8, 96]),
    ...mismatch,
    param: `${Q0}.lora_A.weight`,
    message: /to have shape \[8, 64\], got \[8, 96\]/,
  },
  {
    title: 'a rank that is not the configured one is refused',
    tensors: set(`${V1}.lora_B.weight`, [32, 4]),
    ...invalid,
    param: `${V1}.lora_B.weight`,
    message: /to have shape \[32, 8\], got \[32, 4\]/,
  },
  {
    title: 'a tensor with too many dimensions is refused',
    tensors: set(`${Q0}.lora_A.weight`, [8, 64, 1]),
    ...invalid,
    param: `${Q0}.lora_A.weight`,
    message: /to have shape \[8, 64\], got \[8, 64, 1\]/,
  },
  {
    title: 'a tensor nobody asked for is refused',
    tensors: set('base_model.model.model.layers.0.mlp.up_proj.lora_A.weight', [8, 64]),
    ...invalid,
    param: 'base_model.model.model.layers.0.mlp.up_proj.lora_A.weight',
    message: /unexpected tensor/,
  },
  {
    title: 'a bias although the configuration says none is refused',
    tensors: set(`${Q0}.base_layer.bias`, [64]),
    ...invalid,
    param: `${Q0}.base_layer.bias`,
    message: /unexpected tensor/,
  },
  {
    title: 'a magnitude without DoRA is refused',
    tensors: set(`${Q0}.lora_magnitude_vector`, [64]),
    ...invalid,
    param: `${Q0}.lora_magnitude_vector`,
    message: /unexpected tensor/,
  },
  {
    title: 'a tensor outside of PEFT’s names is refused',
    tensors: set('model.layers.0.self_attn.q_proj.lora_A.weight', [8, 64]),
    ...invalid,
    param: 'model.layers.0.self_attn.q_proj.lora_A.weight',
    message: /names begin with base_model\.model\./,
  },
  {
    title: 'a trained head is refused in the file, too',
    tensors: set('base_model.model.lm_head.lora_A.weight', [8, 64]),
    ...unsupported,
    param: 'base_model.model.lm_head.lora_A.weight',
    message: /adapters of the output head are not served/,
  },
  {
    title: 'a trained embedding is refused in the file, too',
    tensors: set('base_model.model.model.embed_tokens.lora_embedding_A', [8, 320]),
    ...unsupported,
    param: 'base_model.model.model.embed_tokens.lora_embedding_A',
    message: /adapters of the token embedding are not served/,
  },
  {
    title: 'a trained norm is refused in the file, too',
    tensors: set('base_model.model.model.norm.weight', [64]),
    ...unsupported,
    param: 'base_model.model.model.norm.weight',
    message: /trained norms are not served/,
  },
  {
    title: 'the same tensor under two names is refused',
    tensors: set(`${Q0}.lora_A.default.weight`, [8, 64]),
    ...invalid,
    param: `${Q0}.lora_A.weight`,
    message: /lora_A\.default\.weight` and .* are the same tensor/,
  },
  {
    title: 'a value that is not a number is refused',
    tensors: set(`${V1}.lora_A.weight`, [8, 64], (index) => (index === 77 ? Number.NaN : 1)),
    ...invalid,
    param: `${V1}.lora_A.weight`,
    message: /holds NaN at index 77/,
  },
  {
    title: 'an infinite value is refused',
    tensors: set(`${V1}.lora_B.weight`, [32, 8], (index) => (index === 0 ? -Infinity : 1)),
    ...invalid,
    param: `${V1}.lora_B.weight`,
    message: /holds -Infinity at index 0/,
  },
  {
    title: 'a scale that overflows is refused',
    config: { lora_alpha: 1e300 },
    ...invalid,
    param: 'model.layers.0.self_attn.q_proj',
    message: /beyond f32/,
  },
  {
    title: 'an adapter whose B are all zero is refused',
    tensors: zeroAll(/lora_B/),
    ...invalid,
    param: 'adapter_model.safetensors',
    message: /changes nothing/,
  },
  {
    title: 'an adapter with alpha 0 is refused',
    config: { lora_alpha: 0 },
    ...invalid,
    param: 'adapter_model.safetensors',
    message: /changes nothing/,
  },
  {
    title: 'DoRA as it is before training is refused',
    adapter: 'dora-all-r8',
    tensors: (tensors) => {
      zeroAll(/lora_B/)(tensors);
      for (const [name, { shape }] of tensors) {
        if (!name.endsWith('magnitude_vector')) continue;
        const weight = base.weight(
          name.replace('base_model.model.model.', '').replace('.lora_magnitude_vector', ''),
        );
        const cols = weight.length / shape[0]!;
        set(name, shape, (row) => Math.hypot(...weight.subarray(row * cols, (row + 1) * cols)))(tensors);
      }
    },
    ...invalid,
    param: 'adapter_model.safetensors',
    message: /changes nothing/,
  },
  {
    title: 'DoRA without a magnitude is refused',
    adapter: 'dora-all-r8',
    tensors: drop(`${Q0}.lora_magnitude_vector`),
    ...invalid,
    param: `${Q0}.lora_magnitude_vector`,
    message: /of shape \[64\] is missing/,
  },
  {
    title: 'IA3 of ones is refused',
    adapter: 'ia3',
    tensors: (tensors) => {
      for (const [name, { shape }] of tensors) set(name, shape, () => 1)(tensors);
    },
    ...invalid,
    param: 'adapter_model.safetensors',
    message: /changes nothing/,
  },
  {
    title: 'IA3 with its axes swapped is refused',
    adapter: 'ia3',
    config: { feedforward_modules: [] },
    ...invalid,
    param: 'base_model.model.model.layers.0.mlp.down_proj.ia3_l',
    message: /to have shape \[64, 1\], got \[1, 128\]/,
  },
  {
    title: 'a bias that the base has and the file lacks is refused',
    adapter: 'lora-bias-all',
    base: 'llama-bias',
    ...invalid,
    param: `${Q0}.base_layer.bias`,
    message: /of shape \[64\] is missing/,
  },
  {
    title: 'LoKr factors of another size are of another base',
    adapter: 'lokr',
    tensors: set(`${Q0}.lokr_w1`, [4, 8]),
    ...mismatch,
    param: `${Q0}.lokr_w1`,
    message: /make a matrix of shape \[32, 64\], the base has \[64, 64\]/,
  },
  {
    title: 'half a LoKr factor is refused',
    adapter: 'lokr',
    tensors: (tensors) => {
      drop(`${Q0}.lokr_w2`)(tensors);
      set(`${Q0}.lokr_w2_a`, [8, 4])(tensors);
    },
    ...invalid,
    param: `${Q0}.lokr_w2`,
    message: /neither `lokr_w2` nor both of `lokr_w2_a` and `lokr_w2_b`/,
  },
  {
    title: 'a prefix of other sizes is of another base',
    adapter: 'prefix-8',
    config: { num_layers: 4 },
    ...mismatch,
    param: 'num_layers',
    message: /`num_layers` is 4, the base has 2/,
  },
  {
    title: 'a prefix whose tensor has another width is of another base',
    adapter: 'prefix-8',
    tensors: set('prompt_embeddings', [8, 256]),
    ...mismatch,
    param: 'prompt_embeddings',
    message: /to have shape \[8, 128\], got \[8, 256\]/,
  },
  {
    title: 'a prompt of another length than configured is refused',
    adapter: 'prompt-8',
    config: { num_virtual_tokens: 9 },
    ...invalid,
    param: 'prompt_embeddings',
    message: /to have shape \[9, 64\], got \[8, 64\]/,
  },
  {
    title: 'a prompt that fills the context is refused',
    adapter: 'prompt-8',
    config: { num_virtual_tokens: 256 },
    ...mismatch,
    param: 'num_virtual_tokens',
    message: /context of 256 tokens/,
  },
  {
    title: 'an encoder-decoder prompt is refused',
    adapter: 'ptuning-mlp-8',
    config: { num_transformer_submodules: 2 },
    ...unsupported,
    param: 'num_transformer_submodules',
    message: /is 2: adapters of causal language models/,
  },
  {
    title: 'an adapter that names another base by its hash is refused',
    metadata: { base_hash: 'a'.repeat(64) },
    ...mismatch,
    param: 'base_hash',
    message: /llama-tied has bbbb/,
  },
];

for (const {
  title,
  adapter = 'lora-qv-r8',
  config,
  tensors,
  metadata,
  code,
  param,
  message,
  ...rest
} of CASES)
  test(title, async () => {
    const weights = readTensors(adapterFiles('llama-tied', adapter).get('adapter_model.safetensors')!);
    tensors?.(weights);
    const files = peftFiles({ ...fixtureConfig('llama-tied', adapter), ...config }, weights, metadata);
    const onBase = rest.base === undefined ? base : fixtureBase(rest.base);
    await assert.rejects(readPeft(files, onBase), { code, param, message });
  });

test('missing and foreign files are refused by name', async () => {
  const files = adapterFiles('llama-tied', 'lora-qv-r8');
  const without = (name: string) => new Map([...files].filter(([key]) => key !== name));
  const cases: [Map<string, Uint8Array>, object][] = [
    [new Map(), { ...invalid, param: 'adapter_config.json', message: /got none/ }],
    [without('adapter_config.json'), { ...invalid, param: 'adapter_config.json' }],
    [without('adapter_model.safetensors'), { ...invalid, param: 'adapter_model.safetensors' }],
    [
      new Map([...files, ['adapter_model.bin', new Uint8Array()]]),
      { ...unsupported, param: 'adapter_model.bin', message: /safe_serialization=True/ },
    ],
    ...['adapter_model.bin', 'adapter_model.pt', 'adapter_model-00001-of-00002.bin'].map(
      (name): [Map<string, Uint8Array>, object] => [
        new Map([...without('adapter_model.safetensors'), [name, new Uint8Array()]]),
        { ...unsupported, param: name, message: new RegExp(`^${name} is a pickle`) },
      ],
    ),
    ...['PK\u0003\u0004archive/data.pkl', '\u0080\u0002}q\u0000(X\u0001'].map(
      (content): [Map<string, Uint8Array>, object] => [
        new Map([...files, ['adapter_model.safetensors', Buffer.from(content, 'latin1')]]),
        { ...unsupported, param: 'adapter_model.safetensors', message: /is a pickle/ },
      ],
    ),
    [
      new Map([
        ...files,
        ['adapter_model.safetensors', files.get('adapter_model.safetensors')!.subarray(0, 5000)],
      ]),
      { ...invalid, param: 'adapter_model.safetensors' },
    ],
    ...['{"peft_type": "LORA",', '[1]', '{"r": 8, "r": 16}'].map(
      (text): [Map<string, Uint8Array>, object] => [
        new Map([...files, ['adapter_config.json', Buffer.from(text)]]),
        { ...invalid, param: 'adapter_config.json' },
      ],
    ),
  ];
  for (const [given, error] of cases) await assert.rejects(readPeft(given, base), error);
});

test('a file without tensors is refused', async () => {
  const files = peftFiles(fixtureConfig('llama-tied', 'lora-qv-r8'), new Map());
  await assert.rejects(readPeft(files, base), { ...invalid, message: /holds no tensors/ });
});

test('a product of too high a rank is refused with its rank', async () => {
  const wide = {
    ...base,
    architecture: { ...base.architecture, hiddenSize: 1024, numHeads: 64, numKvHeads: 64 },
  };
  const random = seededRandom(1);
  const tensors = new Map<string, Tensor>();
  for (const layer of [0, 1])
    for (const [name, shape] of [
      ['hada_w1_a', [1024, 17]],
      ['hada_w1_b', [17, 1024]],
      ['hada_w2_a', [1024, 17]],
      ['hada_w2_b', [17, 1024]],
    ] as const)
      tensors.set(
        `base_model.model.model.layers.${layer}.self_attn.q_proj.${name}`,
        randomTensor(shape, random),
      );
  const files = peftFiles({ peft_type: 'LOHA', r: 17, alpha: 8, target_modules: ['q_proj'] }, tensors);
  await assert.rejects(readPeft(files, wide), {
    ...unsupported,
    param: 'model.layers.0.self_attn.q_proj.hada_w1_a',
    message: /has rank 289, served are at most 256/,
  });
});

test('old keys that are switched off, and adapter names left in the keys, are accepted', async () => {
  const weights = readTensors(adapterFiles('llama-tied', 'dora-all-r8').get('adapter_model.safetensors')!);
  const renamed = new Map(
    [...weights].map(([name, tensor]) => [
      name
        .replace(/lora_([AB])\.weight/, 'lora_$1.default.weight')
        .replace('lora_magnitude_vector', 'lora_magnitude_vector.default.weight'),
      tensor,
    ]),
  );
  const old = { enable_lora: null, merge_weights: false, use_gora: {}, new_list: [] };
  const config = fixtureConfig('llama-tied', 'dora-all-r8');
  const { content } = await readPeft(peftFiles({ ...config, ...old }, renamed), base);
  const plain = await readPeft(adapterFiles('llama-tied', 'dora-all-r8'), base);
  assert.ok(content.kind === 'lora' && plain.content.kind === 'lora');
  assert.deepEqual(content.layers, plain.content.layers);
  assert.equal(renamed.size, PROJECTIONS.length * 3 * 2);
});

test('the hash depends on the two files alone', async () => {
  const files = adapterFiles('llama-tied', 'lora-qv-r8');
  const { facts } = await readPeft(files, base);
  const more = await readPeft(new Map([['README.md', Buffer.from('# x')], ...[...files].toReversed()]), base);
  assert.equal(more.facts.hash, facts.hash);
  const other = peftFiles(
    { ...fixtureConfig('llama-tied', 'lora-qv-r8'), revision: 'main' },
    readTensors(files.get('adapter_model.safetensors')!),
  );
  assert.notEqual((await readPeft(other, base)).facts.hash, facts.hash);
});
