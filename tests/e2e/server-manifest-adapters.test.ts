// BitFit and bottleneck adapters over HTTP: upload, listing, answers that equal the reference and stay the same beside all other kinds.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { PROJECTIONS, projectionPath } from '../../src/model/architecture.js';
import {
  adapterFiles,
  fixtureBase,
  fixtures,
  peftFiles,
  readTensors,
  type Tensor,
} from '../helpers/adapter-fixtures.js';
import { bottleneckConfig, bottleneckTensors, randomBottleneck } from '../helpers/random-bottleneck.js';
import { greedyBody, refusalOf, runServer, upload } from '../helpers/running-server.js';

const BASE = 'llama-bias';
const TOLERANCE = 1e-4;
const PARITY_TOLERANCE = 1e-3;
const base = fixtureBase(BASE);
const arch = base.architecture;
const server = await runServer({ after }, { model: join(fixtures, 'bases', BASE) });
const { client, url } = server;

/** The trained biases of a PEFT adapter (bias=all, with a LoRA that is zero) as differences from the base's own. */
function bitfitFiles(): Map<string, Uint8Array> {
  const trained = readTensors(adapterFiles(BASE, 'bitfit-r1-zero').get('adapter_model.safetensors')!);
  const tensors = new Map<string, Tensor>();
  for (let layer = 0; layer < arch.numLayers; layer++)
    for (const projection of PROJECTIONS) {
      const module = `layers.${layer}.${projectionPath(projection)}`;
      const path = `base_model.model.model.${module}`;
      const { data, shape } = (trained.get(`${path}.bias`) ?? trained.get(`${path}.base_layer.bias`))!;
      const own = base.bias(module)!;
      tensors.set(`${path}.bias_delta`, { shape, data: data.map((value, i) => value - own[i]!) });
    }
  const config = {
    format: 'adapter-manifest/1',
    method: 'bitfit',
    base_model_name_or_path: BASE,
    num_layers: arch.numLayers,
    hidden_size: arch.hiddenSize,
    target_modules: PROJECTIONS,
  };
  return peftFiles(config, tensors);
}

function bottleneckFiles(seed: number, size: number, metadata: Record<string, string> = {}) {
  const adapter = randomBottleneck(arch, seed, { size });
  return peftFiles(bottleneckConfig(arch, size), bottleneckTensors(adapter), metadata);
}

const UPLOADS = {
  bitfit: bitfitFiles(),
  'neck-a': bottleneckFiles(1, 6),
  'neck-b': bottleneckFiles(2, 20),
  lora: adapterFiles(BASE, 'lora-bias-all'),
};
const NAMES = [BASE, ...Object.keys(UPLOADS)];

test('uploads are registered as what they are', async () => {
  for (const [name, files] of Object.entries(UPLOADS)) {
    const response = await upload(url, name, files);
    assert.equal(response.status, 201, await response.text());
  }
  const listed: { data: { name: string; peft_type: string; served_as: string; target_modules: string[] }[] } =
    JSON.parse(await (await fetch(`${url}/v1/adapters`)).text());
  const rows = listed.data.map(({ name, peft_type, served_as }) => [name, peft_type, served_as]);
  assert.deepEqual(rows, [
    ['bitfit', 'BITFIT', 'lora'],
    ['lora', 'LORA', 'lora'],
    ['neck-a', 'BOTTLENECK', 'bottleneck'],
    ['neck-b', 'BOTTLENECK', 'bottleneck'],
  ]);
  assert.deepEqual(listed.data[0]!.target_modules, [...PROJECTIONS].toSorted());
});

interface Expected {
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask: readonly (readonly number[])[];
  readonly token_logprobs: readonly (readonly number[])[];
}

test("BitFit's log-probabilities are those of the same biases in PyTorch", async () => {
  const path = join(fixtures, 'adapters', BASE, 'bitfit-r1-zero', 'expected.json');
  const expected: Expected = JSON.parse(readFileSync(path, 'utf8'));
  for (const [i, ids] of expected.input_ids.entries()) {
    const prompt = ids.filter((_, j) => expected.attention_mask[i]![j] === 1);
    const answer = await client.completions.create({ ...greedyBody('bitfit', prompt), echo: true });
    const scores = answer.choices[0]!.logprobs!.token_logprobs!.slice(1, prompt.length);
    const worst = Math.max(...scores.map((value, j) => Math.abs(value - expected.token_logprobs[i]![j]!)));
    assert(worst <= PARITY_TOLERANCE, `log-probabilities differ by ${worst}`);
  }
});

test('all kinds at once answer as each alone, and differently from one another', async () => {
  const prompt = [1, 68, 168, 12, 40];
  const ask = async (model: string) => {
    const answer = await client.completions.create(greedyBody(model, prompt));
    const { tokens, token_logprobs: scores } = answer.choices[0]!.logprobs!;
    return { tokens: tokens!, scores: scores! };
  };
  const alone: Awaited<ReturnType<typeof ask>>[] = [];
  for (const name of NAMES) alone.push(await ask(name));
  const together = await Promise.all(NAMES.map(ask));
  together.forEach(({ tokens, scores }, i) => {
    assert.deepEqual(tokens, alone[i]!.tokens, NAMES[i]);
    const worst = Math.max(...scores.map((value, j) => Math.abs(value - alone[i]!.scores[j]!)));
    assert(worst <= TOLERANCE, `${NAMES[i]}: log-probabilities differ by ${worst}`);
  });
  assert.equal(new Set(alone.map(({ scores }) => scores[0]!.toFixed(4))).size, NAMES.length);
});

test('a bottleneck cannot be part of a sum', async () => {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...greedyBody(BASE, [1, 2]), adapters: [{ name: 'neck-a', scale: 0.5 }] }),
  });
  const error = await refusalOf(response);
  assert.deepEqual([response.status, error.code, error.param], [400, 'unsupported_adapter', 'adapters']);
  assert.match(error.message, /neck-a is a bottleneck/);
});

test('a no-op and one that was trained on another chat template are refused', async () => {
  const adapter = randomBottleneck(arch, 5, { strength: 0 });
  const noOp = peftFiles(bottleneckConfig(arch, adapter.size), bottleneckTensors(adapter));
  const other = bottleneckFiles(6, 4, { chat_template_sha256: 'e'.repeat(64) });
  for (const [files, code, words] of [
    [noOp, 'invalid_adapter', /changes nothing/],
    [other, 'adapter_base_mismatch', /chat template of sha256 e{64}, that of llama-bias is [0-9a-f]{64}/],
  ] as const) {
    const response = await upload(url, 'refused', files);
    const error = await refusalOf(response);
    assert.deepEqual([response.status, error.code], [400, code]);
    assert.match(error.message, words);
  }
});
