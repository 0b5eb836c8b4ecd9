// Every adapter folder of the fixtures: what is served loads with the right shapes and values, the rest is refused by name.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type PeftAdapter, readPeft } from '../../src/adapters/peft.js';
import type { LoraAdapter, PrefixAdapter } from '../../src/adapters/types.js';
import {
  type Projection,
  PROJECTIONS,
  projectionPath,
  projectionShape,
} from '../../src/model/architecture.js';
import {
  adapterFiles,
  type FixtureBase,
  fixtureBase,
  fixtures,
  readTensors,
  type Tensor,
} from '../helpers/adapter-fixtures.js';

const BASES = ['llama-tied', 'llama-untied', 'llama-bias', 'qwen2', 'qwen3', 'mistral'] as const;
const ATTENTION = ['q_proj', 'v_proj'];
const ALL = [...PROJECTIONS].toSorted();

/** Adapter name -> [peft type, largest rank, targets], the same for every base that has it. */
const SERVED: Readonly<Record<string, readonly [string, number | null, readonly string[]]>> = {
  'dora-all-r8': ['LORA', 8, ALL],
  'lora-all-r8': ['LORA', 8, ALL],
  'lora-bias-all': ['LORA', 8, ATTENTION],
  'lora-bias-lora-only': ['LORA', 8, ['q_proj']],
  'lora-layers': ['LORA', 4, ALL],
  'lora-lorabias': ['LORA', 4, ['down_proj', 'q_proj']],
  'lora-mixed': ['LORA', 16, ALL],
  'lora-qv-r8': ['LORA', 8, ATTENTION],
  'lora-rslora': ['LORA', 8, ALL],
  'bitfit-r1-zero': ['LORA', 0, ALL],
  ia3: ['IA3', 0, ['down_proj', 'k_proj', 'v_proj']],
  loha: ['LOHA', 16, ATTENTION],
  lokr: ['LOKR', 64, ATTENTION],
  'prefix-8': ['PREFIX_TUNING', null, []],
  'prefix-8-proj': ['PREFIX_TUNING', null, []],
  'prompt-8': ['PROMPT_TUNING', null, []],
  'ptuning-lstm-8': ['P_TUNING', null, []],
  'ptuning-mlp-8': ['P_TUNING', null, []],
};
/** Where a base makes a difference. */
const SERVED_ON: Readonly<Record<string, readonly [string, number | null, readonly string[]]>> = {
  'llama-bias/lora-bias-all': ['LORA', 8, ALL],
  'llama-bias/lora-bias-lora-only': ['LORA', 8, ['q_proj', 'up_proj']],
  'qwen2/lora-bias-all': ['LORA', 8, ['k_proj', 'q_proj', 'v_proj']],
  'qwen2/lora-lorabias': ['LORA', 4, ['down_proj', 'q_proj']],
};
/** Adapter name -> param of the refusal; all are unsupported_adapter. */
const REFUSED: Readonly<Record<string, string>> = {
  lntuning: 'peft_type',
  'lora-embed-lm-head-target': 'target_modules',
  'lora-embed-saved': 'modules_to_save',
  'lora-embed-saved-tied': 'modules_to_save',
  'lora-lm-head-saved': 'modules_to_save',
  'lora-norms-saved': 'modules_to_save',
  'lora-tokens': 'trainable_token_indices',
};

for (const baseName of BASES) {
  const base = fixtureBase(baseName);
  for (const name of readdirSync(join(fixtures, 'adapters', baseName))) {
    const param = REFUSED[name];
    if (param !== undefined) {
      test(`${baseName}/${name} is refused for its ${param}`, async () => {
        await assert.rejects(readPeft(adapterFiles(baseName, name), base), {
          code: 'unsupported_adapter',
          param,
          message: new RegExp(`\`${param}\``),
        });
      });
      continue;
    }
    test(`${baseName}/${name} is served`, async () => {
      const [peftType, rank, targetModules] = SERVED_ON[`${baseName}/${name}`] ?? SERVED[name]!;
      const { content, facts } = await readPeft(adapterFiles(baseName, name), base);
      assert.equal(facts.peftType, peftType);
      assert.equal(facts.rank, rank);
      assert.deepEqual(facts.targetModules, targetModules);
      assert.equal(facts.hash, content.hash);
      assert.match(facts.hash, /^[0-9a-f]{64}$/);
      if (content.kind === 'lora') checkLoraShapes(content, base);
      else assert.equal(facts.numVirtualTokens, 8);
      if (content.kind === 'prefix') checkPrefix(content, base, weightsOf(baseName, name));
      if (content.kind === 'prompt')
        assert.deepEqual(content.embeddings, weightsOf(baseName, name).get('prompt_embeddings')!.data);
    });
    test(`gemma3-text's adapter does not fit ${baseName}`, async () => {
      await assert.rejects(readPeft(adapterFiles('gemma3-text', 'lora-qv-r8'), base), {
        code: 'adapter_base_mismatch',
        message: /layer 2, the base has 2 layers/,
      });
    });
  }
}

function weightsOf(baseName: string, name: string): Map<string, Tensor> {
  return readTensors(adapterFiles(baseName, name).get('adapter_model.safetensors')!);
}

function checkLoraShapes(adapter: LoraAdapter, base: FixtureBase): void {
  let [bytes, rank] = [0, 0];
  assert.equal(adapter.layers.length, base.architecture.numLayers);
  for (const layer of adapter.layers) {
    for (const projection of PROJECTIONS) {
      const [out, input] = projectionShape(base.architecture, projection);
      const [lora, affine] = [layer.lora[projection], layer.affine[projection]];
      if (lora !== undefined) {
        assert.equal(lora.a.length, input * lora.rank);
        assert.equal(lora.b.length, lora.rank * out);
        rank = Math.max(rank, lora.rank);
        bytes += 4 * (input + out) * lora.rank;
      }
      for (const [values, size] of [
        [affine?.outScale, out],
        [affine?.inScale, input],
        [affine?.bias, out],
      ] as const) {
        if (values === undefined || values === null) continue;
        assert.equal(values.length, size);
        bytes += 4 * size;
      }
    }
  }
  assert.equal(adapter.maxRank, rank);
  assert.equal(adapter.sizeBytes, bytes);
}

/** The index formula of PEFT's get_prompt(), entry by entry. */
function checkPrefix(prefix: PrefixAdapter, base: FixtureBase, weights: ReadonlyMap<string, Tensor>): void {
  const { numLayers, numKvHeads: heads, headDim: dim } = base.architecture;
  const { data } = weights.get('prompt_embeddings')!;
  const width = 2 * numLayers * heads * dim;
  for (let layer = 0; layer < numLayers; layer++)
    for (const kv of [0, 1])
      for (let head = 0; head < heads; head++)
        for (let token = 0; token < 8; token++)
          for (let d = 0; d < dim; d++)
            assert.equal(
              prefix.layers[layer]![kv === 0 ? 'k' : 'v'][(head * 8 + token) * dim + d],
              data[token * width + ((layer * 2 + kv) * heads + head) * dim + d],
            );
}

// --- values: the effective weight and bias of every module, from the engine's arrays and straight from the files, in f64 ---

interface Effective {
  /** [out][in] */
  readonly weight: number[][];
  readonly bias: number[];
}

const matrix = (rows: number, cols: number, at: (row: number, col: number) => number) =>
  Array.from({ length: rows }, (_, row) => Array.from({ length: cols }, (_unused, col) => at(row, col)));
const zeros = (size: number) => Array.from({ length: size }, () => 0);
const rowsOf = ({ shape, data }: Tensor) => matrix(shape[0]!, shape[1]!, (r, c) => data[r * shape[1]! + c]!);
const times = (a: number[][], b: number[][]) =>
  matrix(a.length, b[0]!.length, (r, c) => a[r]!.reduce((sum, value, k) => sum + value * b[k]![c]!, 0));

function baseOf(base: FixtureBase, layer: number, projection: Projection): Effective {
  const [out, input] = projectionShape(base.architecture, projection);
  const name = `layers.${layer}.${projectionPath(projection)}`;
  const weight = rowsOf({ shape: [out, input], data: base.weight(name) });
  return { weight, bias: [...(base.bias(name) ?? zeros(out))] };
}

/** y = outScale * (W (inScale * x) + delta) + base bias + bias */
function servedEffect(
  adapter: LoraAdapter,
  base: FixtureBase,
  layer: number,
  projection: Projection,
): Effective {
  const { weight, bias } = baseOf(base, layer, projection);
  const lora = adapter.layers[layer]!.lora[projection];
  const affine = adapter.layers[layer]!.affine[projection];
  const [out, input] = [weight.length, weight[0]!.length];
  const delta =
    lora === undefined
      ? matrix(out, input, () => 0)
      : matrix(out, input, (o, i) => {
          let sum = 0;
          for (let k = 0; k < lora.rank; k++) sum += lora.a[i * lora.rank + k]! * lora.b[k * out + o]!;
          return sum;
        });
  return {
    weight: matrix(
      out,
      input,
      (o, i) => (affine?.outScale?.[o] ?? 1) * (weight[o]![i]! * (affine?.inScale?.[i] ?? 1) + delta[o]![i]!),
    ),
    bias: bias.map((value, o) => value + (affine?.bias?.[o] ?? 0)),
  };
}

type FileEffect = (
  tensor: (name: string) => number[][],
  vector: (name: string) => number[] | null,
  before: Effective,
  place: string,
) => Effective;

const plusScaled = (base: number[][], delta: number[][], scale: number) =>
  matrix(base.length, base[0]!.length, (o, i) => base[o]![i]! + scale * delta[o]![i]!);

const lora =
  (scale: (place: string) => number): FileEffect =>
  (tensor, vector, before, place) => {
    const delta = times(tensor('lora_B.weight'), tensor('lora_A.weight'));
    const added = vector('lora_B.bias') ?? zeros(before.bias.length);
    const bias = vector('base_layer.bias') ?? vector('bias') ?? before.bias;
    return {
      weight: plusScaled(before.weight, delta, scale(place)),
      bias: bias.map((value, o) => value + scale(place) * added[o]!),
    };
  };

const MIXED_ALPHA = (place: string) => (place === '0.q_proj' ? 32 : place.endsWith('v_proj') ? 5 : 16);
const MIXED_RANK = (place: string) =>
  place.endsWith('down_proj') ? 2 : place === '0.q_proj' ? 4 : place === '1.gate_proj' ? 16 : 8;

const VALUE_CASES: readonly (readonly [base: string, name: string, effect: FileEffect])[] = [
  ['llama-tied', 'lora-all-r8', lora(() => 2)],
  ['qwen3', 'lora-all-r8', lora(() => 2)],
  ['qwen2', 'lora-rslora', lora(() => 16 / Math.sqrt(8))],
  ['llama-tied', 'lora-mixed', lora((place) => MIXED_ALPHA(place) / MIXED_RANK(place))],
  ['llama-tied', 'lora-lorabias', lora(() => 4)],
  ['qwen2', 'lora-lorabias', lora(() => 4)],
  ['qwen2', 'lora-bias-all', lora(() => 2)],
  ['llama-bias', 'lora-bias-all', lora(() => 2)],
  ['llama-bias', 'lora-bias-lora-only', lora(() => 2)],
  ['llama-bias', 'bitfit-r1-zero', lora(() => 0)],
  ...(['llama-tied', 'qwen2'] as const).map(
    (base) =>
      [
        base,
        'dora-all-r8',
        (tensor, vector, before) => {
          const delta = times(tensor('lora_B.weight'), tensor('lora_A.weight'));
          const whole = plusScaled(before.weight, delta, 2);
          const magnitude = vector('lora_magnitude_vector')!;
          const weight = whole.map((row, o) =>
            row.map((value) => (value * magnitude[o]!) / Math.hypot(...row)),
          );
          return { weight, bias: before.bias };
        },
      ] as const satisfies readonly [string, string, FileEffect],
  ),
  ...(['llama-tied', 'qwen2'] as const).map(
    (base) =>
      [
        base,
        'ia3',
        (tensor, _vector, { weight, bias }, place) => {
          const l = tensor('ia3_l');
          if (place.endsWith('down_proj'))
            return { weight: weight.map((row) => row.map((value, i) => value * l[0]![i]!)), bias };
          return {
            weight: weight.map((row, o) => row.map((value) => value * l[o]![0]!)),
            bias: bias.map((value, o) => value * l[o]![0]!),
          };
        },
      ] as const satisfies readonly [string, string, FileEffect],
  ),
  [
    'llama-tied',
    'loha',
    (tensor, _vector, { weight, bias }) => {
      const first = times(tensor('hada_w1_a'), tensor('hada_w1_b'));
      const second = times(tensor('hada_w2_a'), tensor('hada_w2_b'));
      return {
        weight: weight.map((row, o) => row.map((w, i) => w + 2 * first[o]![i]! * second[o]![i]!)),
        bias,
      };
    },
  ],
  ...(['llama-tied', 'qwen2'] as const).map(
    (base) =>
      [
        base,
        'lokr',
        (tensor, _vector, { weight, bias }) => {
          const [w1, w2] = [tensor('lokr_w1'), tensor('lokr_w2')];
          const [h, w] = [w2.length, w2[0]!.length];
          const kron = (o: number, i: number) =>
            w1[Math.floor(o / h)]![Math.floor(i / w)]! * w2[o % h]![i % w]!;
          return { weight: weight.map((row, o) => row.map((value, i) => value + 2 * kron(o, i))), bias };
        },
      ] as const satisfies readonly [string, string, FileEffect],
  ),
];

for (const [baseName, name, effect] of VALUE_CASES)
  test(`${baseName}/${name}: the arrays mean what the files say`, async () => {
    const base = fixtureBase(baseName);
    const { content }: PeftAdapter = await readPeft(adapterFiles(baseName, name), base);
    assert.equal(content.kind, 'lora');
    const weights = weightsOf(baseName, name);
    let changed = 0;
    for (let layer = 0; layer < base.architecture.numLayers; layer++)
      for (const projection of PROJECTIONS) {
        const prefix = `base_model.model.model.layers.${layer}.${projectionPath(projection)}.`;
        const before = baseOf(base, layer, projection);
        const names = [...weights.keys()].filter((key) => key.startsWith(prefix));
        const vector = (key: string) => {
          const found = weights.get(prefix + key);
          return found === undefined ? null : [...found.data];
        };
        const isTarget = names.some((key) => !key.endsWith('.bias') || key.includes('lora_B'));
        const expected = isTarget
          ? effect((key) => rowsOf(weights.get(prefix + key)!), vector, before, `${layer}.${projection}`)
          : { weight: before.weight, bias: vector('bias') ?? before.bias };
        if (names.length > 0) changed++;
        const served = servedEffect(content, base, layer, projection);
        assertClose(served.weight.flat(), expected.weight.flat(), `${prefix}weight`);
        assertClose(served.bias, expected.bias, `${prefix}bias`);
      }
    assert.ok(changed > 0);
  });

function assertClose(actual: readonly number[], expected: readonly number[], place: string): void {
  assert.equal(actual.length, expected.length);
  for (const [index, value] of expected.entries()) {
    const difference = Math.abs(actual[index]! - value);
    assert.ok(
      difference <= 2e-6 * (1 + Math.abs(value)),
      `${place}[${index}]: ${actual[index]} is not ${value}`,
    );
  }
}
