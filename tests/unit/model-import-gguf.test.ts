// GGUF -> artifact: the order of q's and k's rows, exact codes of every type, the header's keys, and refusals by name.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { dequantize } from '../../src/formats/ggml-blocks.js';
import type { SupportedGgmlType } from '../../src/formats/gguf.js';
import type { MatrixEntry } from '../../src/model/artifact.js';
import { type Artifact, openArtifact } from '../../src/model/artifact-reader.js';
import { architectureFromConfig } from '../../src/model/config.js';
import { importModel, type ImportOptions } from '../../src/model/import.js';
import { ggufName, safetensorsName, tensorList } from '../../src/model/tensor-list.js';
import { seededRandom } from '../helpers/format-files.js';
import { f32Tensor, type GgufTensorInput, randomTensor, writeGguf } from '../helpers/gguf-writer.js';
import { BASES, readTensors, temporaryFolder } from '../helpers/model-folder.js';

const root = temporaryFolder(after);
let counter = 0;

type Metadata = Parameters<typeof writeGguf>[0];

async function imported(
  metadata: Metadata,
  tensors: Readonly<Record<string, GgufTensorInput>>,
  options: Partial<ImportOptions> = {},
): Promise<Artifact> {
  const sourcePath = join(root, `${counter}.gguf`);
  const outputFolder = join(root, `${counter++}`);
  writeFileSync(sourcePath, writeGguf(metadata, tensors));
  await importModel({ sourcePath, outputFolder, weights: 'q4', name: 'tiny', source: 'test', ...options });
  return openArtifact(outputFolder);
}

/** One layer, 256 wide, 4 heads of 64 over 2. */
const WIDE: Metadata = {
  'general.architecture': 'llama',
  'llama.block_count': 1,
  'llama.context_length': 128,
  'llama.embedding_length': 256,
  'llama.feed_forward_length': 256,
  'llama.attention.head_count': 4,
  'llama.attention.head_count_kv': 2,
  'llama.attention.layer_norm_rms_epsilon': { f32: 2 ** -17 },
  'llama.rope.freq_base': { f32: 5000 },
  'llama.rope.dimension_count': 64,
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'llama-bpe',
  'tokenizer.ggml.bos_token_id': 1,
  'tokenizer.ggml.eos_token_id': 2,
  'tokenizer.ggml.eot_token_id': 5,
};

const WIDE_TYPES = {
  'token_embd.weight': ['Q4_1', 64, 256],
  'blk.0.attn_q.weight': ['Q4_1', 256, 256],
  'blk.0.attn_k.weight': ['Q6_K', 128, 256],
  'blk.0.attn_v.weight': ['Q4_0', 128, 256],
  'blk.0.attn_output.weight': ['Q4_K', 256, 256],
  'blk.0.ffn_gate.weight': ['Q5_K', 256, 256],
  'blk.0.ffn_up.weight': ['Q5_1', 256, 256],
  'blk.0.ffn_down.weight': ['Q8_0', 256, 256],
  'output.weight': ['Q5_0', 64, 256],
} as const satisfies Record<string, readonly [SupportedGgmlType, number, number]>;

function wideTensors(seed = 1): Record<string, GgufTensorInput> {
  const random = seededRandom(seed);
  const norm = f32Tensor([256], new Float32Array(256).fill(1));
  const tensors: Record<string, GgufTensorInput> = {
    'output_norm.weight': norm,
    'blk.0.attn_norm.weight': norm,
    'blk.0.ffn_norm.weight': norm,
  };
  for (const [name, [type, rows, cols]] of Object.entries(WIDE_TYPES))
    tensors[name] = randomTensor(type, [rows, cols], random);
  return tensors;
}

/**
 * The order in which the converter of llama.cpp stores rows of q and k:
 * reshape(heads, 2, headDim / 2, ...).swapaxes(1, 2). Element i of the result is the row that is stored i-th.
 */
function storedOrder(rows: number, headDim: number): number[] {
  const order: number[] = [];
  for (let head = 0; head < rows / headDim; head++)
    for (let pair = 0; pair < headDim / 2; pair++)
      for (let half = 0; half < 2; half++) order.push(head * headDim + half * (headDim / 2) + pair);
  return order;
}

/** Values in the order of a checkpoint, from values in the order of the file. */
function restored(values: Float32Array, order: readonly number[]): Float32Array {
  const width = values.length / order.length;
  const out = new Float32Array(values.length);
  order.forEach((row, at) => out.set(values.subarray(at * width, (at + 1) * width), row * width));
  return out;
}

function assertSameValues(actual: Float32Array, expected: Float32Array, name: string): void {
  assert.equal(actual.length, expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  actual.forEach((value, i) => {
    if (Math.abs(value - expected[i]!) > 3e-7 * largest)
      assert.fail(`${name}[${i}]: ${value} is not ${expected[i]}`);
  });
}

function reference(tensor: GgufTensorInput): Float32Array {
  const count = tensor.shape.reduce((product, dim) => product * dim, 1);
  return dequantize(tensor.type as SupportedGgmlType, tensor.bytes, count);
}

function describeKind(entry: MatrixEntry): string {
  if (entry.kind === 'f32') return 'f32';
  return `${entry.kind}/${entry.blockSize}${entry.minima === null ? '' : ' with minima'}`;
}

describe('importModel of GGUF', () => {
  const kinds: Readonly<Record<string, readonly [string, string]>> = {
    embed_tokens: ['int8/32 with minima', 'int8/32 with minima'],
    'layers.0.self_attn.q_proj': ['int4/32 with minima', 'int8/32 with minima'],
    'layers.0.self_attn.k_proj': ['int8/16', 'int8/16'],
    'layers.0.self_attn.v_proj': ['int4/32', 'int8/32'],
    'layers.0.self_attn.o_proj': ['int4/32 with minima', 'int8/32 with minima'],
    'layers.0.mlp.gate_proj': ['int8/32 with minima', 'int8/32 with minima'],
    'layers.0.mlp.up_proj': ['int8/32 with minima', 'int8/32 with minima'],
    'layers.0.mlp.down_proj': ['int8/32', 'int8/32'],
    lm_head: ['int8/32', 'int8/32'],
  };
  for (const weights of ['q4', 'q8', 'f32'] as const)
    it(`keeps the values of every type in ${weights}`, async () => {
      const tensors = wideTensors();
      const { manifest, ...artifact } = await imported(WIDE, tensors, { weights });
      for (const [name, [q4, q8]] of Object.entries(kinds)) {
        const kind = { q4, q8, f32: 'f32' }[weights];
        assert.equal(describeKind(manifest.matrices[name]!), kind, name);
        const tensor = tensors[ggufName(name)]!;
        const isRotated = /[qk]_proj$/.test(name);
        const expected = isRotated
          ? restored(reference(tensor), storedOrder(tensor.shape[0]!, 64))
          : reference(tensor);
        assertSameValues(artifact.readMatrixF32(name), expected, name);
      }
    });

  it('reads the header', async () => {
    const seen: unknown[] = [];
    const { manifest, folder } = await imported(WIDE, wideTensors(), {
      tokenizerFiles: (metadata) => {
        seen.push(metadata.get('tokenizer.ggml.pre'));
        return { 'tokenizer.json': '{"made":true}' };
      },
    });
    assert.deepEqual(manifest.architecture, {
      family: 'llama',
      hiddenSize: 256,
      numLayers: 1,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 64,
      intermediateSize: 256,
      vocabSize: 64,
      contextLength: 128,
      rmsNormEps: 2 ** -17,
      ropeTheta: 5000,
      ropeScaling: null,
      tiedHead: false,
      qkvBias: false,
      outputBias: false,
      mlpBias: false,
      qkNorm: false,
      slidingWindow: null,
    });
    assert.deepEqual([manifest.eosTokenIds, manifest.bosTokenId, manifest.addBos], [[2, 5], 1, true]);
    assert.deepEqual(seen, ['llama-bpe']);
    assert.equal(readFileSync(join(folder, 'tokenizer.json'), 'utf8'), '{"made":true}');
  });

  for (const base of ['llama-tied', 'llama-bias', 'qwen2', 'qwen3'])
    it(`makes of ${base} what its safetensors make`, async () => {
      const [metadata, tensors] = asGguf(base);
      const fromGguf = await imported(metadata, tensors, { weights: 'f32' });
      const source = readTensors(join(BASES, base, 'model.safetensors'));
      const config: unknown = JSON.parse(readFileSync(join(BASES, base, 'config.json'), 'utf8'));
      const arch = architectureFromConfig(config, base);
      assert.deepEqual(fromGguf.manifest.architecture, { ...arch, rmsNormEps: Math.fround(arch.rmsNormEps) });
      for (const { name, shape } of tensorList(arch)) {
        const values = shape.length === 1 ? fromGguf.readVector(name) : fromGguf.readMatrixF32(name);
        assert.deepEqual(values, source.get(safetensorsName(name))!.data, name);
      }
    });

  it('does not depend on how many rows are converted at a time', async () => {
    const whole = await imported(WIDE, wideTensors());
    const pieces = await imported(WIDE, wideTensors(), { maxChunkValues: 7 * 256 });
    assert.deepEqual(pieces.manifest.matrices, whole.manifest.matrices);
    const weightsOf = ({ folder }: Artifact) => readFileSync(join(folder, 'weights.bin'));
    assert.ok(weightsOf(pieces).equals(weightsOf(whole)));
  });

  it('quantizes plain floats', async () => {
    const [metadata, tensors] = asGguf('qwen3');
    const { matrices } = (await imported(metadata, tensors)).manifest;
    assert.equal(describeKind(matrices['embed_tokens']!), 'int8/32');
    assert.equal(describeKind(matrices['layers.0.mlp.up_proj']!), 'int4/32 with minima');
  });
});

describe('rope scaling of GGUF', () => {
  const scalingOf = async (metadata: Metadata, tensors: Record<string, GgufTensorInput> = {}) =>
    (await imported({ ...WIDE, ...metadata }, { ...wideTensors(), ...tensors })).manifest.architecture
      .ropeScaling;

  it('reads linear, yarn and explicit factors', async () => {
    assert.deepEqual(
      await scalingOf({
        'llama.rope.scaling.type': 'linear',
        'llama.rope.scaling.factor': { f32: 4 },
      }),
      { type: 'linear', factor: 4 },
    );
    assert.equal(await scalingOf({ 'llama.rope.scaling.type': 'none' }), null);
    assert.deepEqual(
      await scalingOf({
        'llama.rope.scaling.type': 'yarn',
        'llama.rope.scaling.factor': { f32: 4 },
        'llama.rope.scaling.original_context_length': 32,
        'llama.rope.scaling.attn_factor': { f32: 0.5 },
      }),
      {
        type: 'yarn',
        factor: 4,
        originalContextLength: 32,
        betaFast: 32,
        betaSlow: 1,
        attentionFactor: 0.5 * (0.1 * Math.log(4) + 1),
      },
    );
    const factors = Float32Array.from({ length: 32 }, (_, pair) => 1 + pair / 4);
    assert.deepEqual(await scalingOf({}, { 'rope_freqs.weight': f32Tensor([32], factors) }), {
      type: 'factors',
      factors: [...factors],
    });
  });

  it('refuses longrope and factors of the wrong number', async () => {
    await assert.rejects(scalingOf({ 'llama.rope.scaling.type': 'longrope' }), {
      code: 'unsupported_model',
      message: /`rope\.scaling\.type` "longrope"/,
    });
    await assert.rejects(
      scalingOf({}, { 'rope_freqs.weight': f32Tensor([3], new Float32Array(3).fill(1)) }),
      {
        code: 'unsupported_model',
        message: /Expected 32 frequency factors, got 3/,
      },
    );
  });
});

describe('importModel refuses of GGUF', () => {
  const cases: readonly [string, Metadata, Record<string, GgufTensorInput>, string, RegExp][] = [
    [
      'another architecture',
      { 'general.architecture': 'gemma3' },
      {},
      'unsupported_model',
      /`general\.architecture` "gemma3" is not supported; supported: llama, qwen2, qwen3/,
    ],
    ['experts', { 'llama.expert_count': 8 }, {}, 'unsupported_model', /`expert_count` 8/],
    [
      'partial rotary',
      { 'llama.rope.dimension_count': 32 },
      {},
      'unsupported_model',
      /`rope\.dimension_count` 32 is not supported; supported: 64/,
    ],
    [
      'a part of a split file',
      { 'split.count': 3 },
      {},
      'unsupported_model',
      /one of 3 parts of a split file/,
    ],
    [
      'an unknown tensor',
      {},
      { 'blk.0.extra.weight': f32Tensor([4], new Float32Array(4)) },
      'unsupported_model',
      /tensor `blk\.0\.extra\.weight` of shape \[4\] is no part/,
    ],
    [
      'another shape',
      {},
      { 'blk.0.attn_k.weight': randomTensor('Q4_0', [256, 256], seededRandom(1)) },
      'invalid_file',
      /Expected tensor `blk\.0\.attn_k\.weight` to have shape \[128, 256\], got \[256, 256\]/,
    ],
    [
      'a type that is not read',
      {},
      { 'blk.0.attn_k.weight': randomTensor('Q2_K', [128, 256], seededRandom(1)) },
      'unsupported_model',
      /tensor `blk\.0\.attn_k\.weight` has type Q2_K/,
    ],
    [
      'a scale that is not finite',
      {},
      { 'blk.0.ffn_down.weight': infiniteScale() },
      'invalid_file',
      /tensor `blk\.0\.ffn_down\.weight` has the value Infinity in row 3/,
    ],
  ];
  for (const [what, metadata, tensors, code, message] of cases)
    it(what, async () => {
      await assert.rejects(imported({ ...WIDE, ...metadata }, { ...wideTensors(), ...tensors }), {
        name: 'GatewayError',
        code,
        message,
      });
    });

  it('a missing tensor', async () => {
    const { 'blk.0.attn_v.weight': _, ...tensors } = wideTensors();
    await assert.rejects(imported(WIDE, tensors), {
      code: 'invalid_file',
      message: /tensor `blk\.0\.attn_v\.weight` of shape \[128, 256\] is missing/,
    });
  });
});

function infiniteScale(): GgufTensorInput {
  const tensor = randomTensor('Q8_0', [256, 256], seededRandom(2));
  tensor.bytes.set([0x00, 0x7c], (3 * 256 * 34) / 32); // the first block of row 3
  return tensor;
}

/** A fixture as llama.cpp's converter would store it in f32. */
function asGguf(base: string): [Metadata, Record<string, GgufTensorInput>] {
  const config: unknown = JSON.parse(readFileSync(join(BASES, base, 'config.json'), 'utf8'));
  const arch = architectureFromConfig(config, base);
  const source = readTensors(join(BASES, base, 'model.safetensors'));
  const tensors: Record<string, GgufTensorInput> = {};
  for (const { name } of tensorList(arch)) {
    const { shape, data } = source.get(safetensorsName(name))!;
    const isRotated = arch.family === 'llama' && /[qk]_proj(\.bias)?$/.test(name);
    tensors[ggufName(name)] = f32Tensor(
      shape,
      isRotated ? stored(data, storedOrder(shape[0]!, arch.headDim)) : data,
    );
  }
  const family = arch.family;
  const metadata: Metadata = {
    'general.architecture': family,
    [`${family}.block_count`]: arch.numLayers,
    [`${family}.context_length`]: arch.contextLength,
    [`${family}.embedding_length`]: arch.hiddenSize,
    [`${family}.feed_forward_length`]: arch.intermediateSize,
    [`${family}.attention.head_count`]: arch.numHeads,
    [`${family}.attention.head_count_kv`]: arch.numKvHeads,
    [`${family}.attention.key_length`]: arch.headDim,
    [`${family}.attention.value_length`]: arch.headDim,
    [`${family}.attention.layer_norm_rms_epsilon`]: { f32: arch.rmsNormEps },
    [`${family}.rope.freq_base`]: { f32: arch.ropeTheta },
  };
  return [metadata, tensors];
}

function stored(values: Float32Array, order: readonly number[]): Float32Array {
  const width = values.length / order.length;
  const out = new Float32Array(values.length);
  order.forEach((row, at) => out.set(values.subarray(row * width, (row + 1) * width), at * width));
  return out;
}
