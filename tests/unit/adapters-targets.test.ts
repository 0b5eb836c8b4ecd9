// Which modules a configuration selects, by PEFT's rules; and low-rank rewritings of LoHa and LoKr against their definition.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPeft } from '../../src/adapters/peft.js';
import { matchPatterns } from '../../src/adapters/module-patterns.js';
import { targetSites } from '../../src/adapters/target-modules.js';
import {
  fixtureBase,
  peftFiles,
  randomTensor,
  seededRandom,
  type Tensor,
} from '../helpers/adapter-fixtures.js';

const base = fixtureBase('llama-tied');
const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const UNSLOTH =
  '(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\\bmodel\\.layers\\.[\\d]{1,}\\.(?:self_attn|attention|mlp)\\.(?:(?:q_proj|gate_proj)))';

const CASES: readonly (readonly [
  title: string,
  config: Record<string, unknown>,
  modules: readonly string[],
])[] = [
  ['null is the default', { target_modules: null }, ['0.q_proj', '0.v_proj', '1.q_proj', '1.v_proj']],
  [
    'all-linear',
    { target_modules: 'all-linear' },
    [0, 1].flatMap((layer) => ALL.map((name) => `${layer}.${name}`)),
  ],
  ['a list of short names', { target_modules: ['up_proj', 'not_there'] }, ['0.up_proj', '1.up_proj']],
  ['a path suffix', { target_modules: ['1.mlp.up_proj'] }, ['1.up_proj']],
  ['a full path', { target_modules: ['model.layers.0.self_attn.o_proj'] }, ['0.o_proj']],
  ['a suffix ends at a dot', { target_modules: ['proj', 'q_proj'] }, ['0.q_proj', '1.q_proj']],
  [
    'a string is a pattern for the whole name',
    { target_modules: '.*\\.(q|k)_proj' },
    ['0.q_proj', '0.k_proj', '1.q_proj', '1.k_proj'],
  ],
  ['a long pattern', { target_modules: UNSLOTH }, ['0.q_proj', '0.gate_proj', '1.q_proj', '1.gate_proj']],
  [
    'excluded by name',
    { target_modules: ['q_proj'], exclude_modules: ['layers.0.self_attn.q_proj'] },
    ['1.q_proj'],
  ],
  [
    'excluded by pattern',
    { target_modules: 'all-linear', exclude_modules: '.*(mlp|layers\\.1).*' },
    ['0.q_proj', '0.k_proj', '0.v_proj', '0.o_proj'],
  ],
  ['layers as a list', { target_modules: ['q_proj'], layers_to_transform: [1] }, ['1.q_proj']],
  ['one layer as a number', { target_modules: ['q_proj'], layers_to_transform: 0 }, ['0.q_proj']],
  [
    'no layers listed is all',
    { target_modules: ['q_proj'], layers_to_transform: [] },
    ['0.q_proj', '1.q_proj'],
  ],
  [
    'layers under a name',
    { target_modules: ['q_proj'], layers_to_transform: [1], layers_pattern: 'layers' },
    ['1.q_proj'],
  ],
  [
    'layers under several names',
    { target_modules: ['q_proj'], layers_to_transform: [1], layers_pattern: ['h', 'layers'] },
    ['1.q_proj'],
  ],
];

for (const [title, config, modules] of CASES)
  test(`target_modules: ${title}`, () => {
    const sites = targetSites(config, base.architecture, ['q_proj', 'v_proj']);
    assert.deepEqual(
      sites.map(({ layer, projection }) => `${layer}.${projection}`),
      modules,
    );
  });

test('layers under another name select nothing', () => {
  assert.throws(
    () =>
      targetSites(
        { target_modules: ['q_proj'], layers_to_transform: [1], layers_pattern: 'h' },
        base.architecture,
        [],
      ),
    { code: 'invalid_adapter', param: 'target_modules' },
  );
});

test('plain patterns match as the regular expressions that they are', () => {
  const random = seededRandom(7);
  const alphabet = 'aq._1';
  const word = (length: number) =>
    Array.from({ length }, () => alphabet[Math.floor(((random() + 1) / 2) * alphabet.length)]!).join('');
  for (let round = 0; round < 200; round++) {
    const patterns = Array.from({ length: 5 }, (_, length) => word(length + 1));
    const names = Array.from({ length: 10 }, (_, length) => word(length + 1));
    const expected = patterns.map((p) => names.map((name) => new RegExp(`^(.*\\.)?(${p})$`).test(name)));
    assert.deepEqual(matchPatterns('rank_pattern', patterns, names, 'suffix'), expected, patterns.join(' '));
  }
});

/** The delta [out, in] of a module as served. */
async function servedDelta(config: Record<string, unknown>, tensors: ReadonlyMap<string, Tensor>) {
  const { content } = await readPeft(
    peftFiles({ target_modules: ['layers.0.self_attn.v_proj'], ...config }, tensors),
    base,
  );
  assert.ok(content.kind === 'lora');
  const { rank, a, b } = content.layers[0]!.lora.v_proj!;
  assert.equal(content.maxRank, rank);
  const delta = Array.from({ length: 32 * 64 }, (_, at) => {
    const [out, input] = [Math.floor(at / 64), at % 64];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += a[input * rank + k]! * b[k * 32 + out]!;
    return sum;
  });
  return { rank, delta };
}

function multiply(left: Tensor, right: Tensor): Tensor {
  const [rows, inner, cols] = [left.shape[0]!, left.shape[1]!, right.shape[1]!];
  const data = Float32Array.from({ length: rows * cols }, (_, at) => {
    const [row, col] = [Math.floor(at / cols), at % cols];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += left.data[row * inner + k]! * right.data[k * cols + col]!;
    return sum;
  });
  return { shape: [rows, cols], data };
}

const V0 = 'base_model.model.model.layers.0.self_attn.v_proj';

for (const [r, rank] of [
  [2, 4],
  [5, 25],
  [6, 32],
] as const)
  test(`LoHa of rank ${r} is an exact product of rank ${rank}`, async () => {
    const random = seededRandom(r);
    const [w1a, w1b, w2a, w2b] = [
      [32, r],
      [r, 64],
      [32, r],
      [r, 64],
    ].map((shape) => randomTensor(shape, random));
    const tensors = new Map([
      [`${V0}.hada_w1_a`, w1a!],
      [`${V0}.hada_w1_b`, w1b!],
      [`${V0}.hada_w2_a`, w2a!],
      [`${V0}.hada_w2_b`, w2b!],
    ]);
    const served = await servedDelta({ peft_type: 'LOHA', r, alpha: 3 }, tensors);
    assert.equal(served.rank, rank);
    const [first, second] = [multiply(w1a!, w1b!), multiply(w2a!, w2b!)];
    for (const [at, value] of served.delta.entries())
      assert.ok(Math.abs(value - (3 / r) * first.data[at]! * second.data[at]!) < 1e-5 * r);
  });

for (const [title, shapes, rank] of [
  ['both whole', { w1: [4, 8], w2: [8, 8] }, 32],
  ['w2 factored', { w1: [4, 8], w2_a: [8, 3], w2_b: [3, 8] }, 12],
  ['both factored', { w1_a: [4, 3], w1_b: [3, 8], w2_a: [8, 3], w2_b: [3, 8] }, 9],
  ['a factor wider than it is tall', { w1: [2, 16], w2_a: [16, 3], w2_b: [3, 4] }, 6],
  ['a factorisation that saves nothing', { w1_a: [2, 3], w1_b: [3, 8], w2: [16, 8] }, 16],
] satisfies [string, Record<string, number[]>, number][])
  test(`LoKr, ${title}, is an exact product of rank ${rank}`, async () => {
    const random = seededRandom(rank);
    const parts = new Map(
      Object.entries<number[]>(shapes).map(([name, shape]) => [name, randomTensor(shape, random)]),
    );
    const tensors = new Map([...parts].map(([name, tensor]) => [`${V0}.lokr_${name}`, tensor]));
    const served = await servedDelta({ peft_type: 'LOKR', r: 3, alpha: 6 }, tensors);
    assert.equal(served.rank, rank);
    const factor = (name: string) =>
      parts.get(name) ?? multiply(parts.get(`${name}_a`)!, parts.get(`${name}_b`)!);
    const [w1, w2] = [factor('w1'), factor('w2')];
    const [height, width] = [w2.shape[0]!, w2.shape[1]!];
    for (const [at, value] of served.delta.entries()) {
      const [out, input] = [Math.floor(at / 64), at % 64];
      const outer = w1.data[Math.floor(out / height) * w1.shape[1]! + Math.floor(input / width)]!;
      const inner = w2.data[(out % height) * width + (input % width)]!;
      assert.ok(Math.abs(value - 2 * outer * inner) < 2e-5, `${out},${input}`);
    }
  });

test('DoRA of a rank that is no multiple of four brings each row to its length', async () => {
  const random = seededRandom(3);
  const [a, b, magnitude] = [[3, 64], [32, 3], [32]].map((shape) => randomTensor(shape, random));
  const tensors = new Map([
    [`${V0}.lora_A.weight`, a!],
    [`${V0}.lora_B.weight`, b!],
    [`${V0}.lora_magnitude_vector`, magnitude!],
  ]);
  const config = { peft_type: 'LORA', r: 3, lora_alpha: 6, use_dora: true };
  const files = peftFiles({ ...config, target_modules: ['layers.0.self_attn.v_proj'] }, tensors);
  const { content } = await readPeft(files, base);
  assert.ok(content.kind === 'lora');
  const { outScale, inScale, bias } = content.layers[0]!.affine.v_proj!;
  assert.deepEqual([inScale, bias], [null, null]);
  const weight = base.weight('layers.0.self_attn.v_proj');
  const delta = multiply(b!, a!);
  for (let out = 0; out < 32; out++) {
    const row = Array.from({ length: 64 }, (_, i) => weight[out * 64 + i]! + 2 * delta.data[out * 64 + i]!);
    const expected = magnitude!.data[out]! / Math.hypot(...row);
    assert.ok(Math.abs(outScale![out]! - expected) < 1e-5 * (1 + Math.abs(expected)), `row ${out}`);
  }
});

test('a trained bias of a module without one is added as it is', async () => {
  const random = seededRandom(4);
  const bias = randomTensor([32], random);
  const tensors = new Map([
    [`${V0}.lora_A.weight`, randomTensor([2, 64], random)],
    [`${V0}.lora_B.weight`, randomTensor([32, 2], random)],
    [V0.replace('v_proj', 'k_proj.bias'), bias],
  ]);
  const config = { peft_type: 'LORA', r: 2, bias: 'all', target_modules: ['layers.0.self_attn.v_proj'] };
  const { content } = await readPeft(peftFiles(config, tensors), base);
  assert.ok(content.kind === 'lora');
  assert.deepEqual(content.layers[0]!.affine, { k_proj: { outScale: null, inScale: null, bias: bias.data } });
  assert.deepEqual(Object.keys(content.layers[0]!.lora), ['v_proj']);
});
