// Safetensors folder -> artifact -> values again, in all three weight modes; what the manifest says; what is refused.

import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { bytesSource } from '../../src/formats/byte-source.js';
import { type Artifact, openArtifact } from '../../src/model/artifact-reader.js';
import { importModel } from '../../src/model/import.js';
import { tensorList, safetensorsName } from '../../src/model/tensor-list.js';
import { hashTensors } from '../../src/model/tensor-match.js';
import {
  alteredBase,
  BASES,
  type PlainTensor,
  readTensors,
  temporaryFolder,
} from '../helpers/model-folder.js';

const root = temporaryFolder(after);
let counter = 0;

async function imported(sourcePath: string, weights: 'q4' | 'q8' | 'f32' = 'f32'): Promise<Artifact> {
  const outputFolder = join(root, `out-${counter++}`);
  await importModel({ sourcePath, outputFolder, weights, name: 'tiny', source: 'test' });
  return openArtifact(outputFolder);
}

function sourceTensors(base: string): Map<string, PlainTensor> {
  const files = readdirSync(join(BASES, base)).filter((file) => file.endsWith('.safetensors'));
  return new Map(files.flatMap((file) => [...readTensors(join(BASES, base, file))]));
}

function relativeError(values: Float32Array, expected: Float32Array): number {
  let error = 0;
  let total = 0;
  for (let i = 0; i < values.length; i++) {
    error += (values[i]! - expected[i]!) ** 2;
    total += expected[i]! ** 2;
  }
  return Math.sqrt(error / total);
}

const bases = readdirSync(BASES).filter((base) => base !== 'gemma3-text');

describe('importModel of safetensors', () => {
  for (const base of bases)
    it(`keeps every value of ${base} in f32`, async () => {
      const artifact = await imported(join(BASES, base));
      const source = sourceTensors(base);
      const { manifest } = artifact;
      const specs = tensorList(manifest.architecture);
      assert.equal(specs.length, source.size);
      for (const { name, shape } of specs) {
        const values = shape.length === 1 ? artifact.readVector(name) : artifact.readMatrixF32(name);
        assert.deepEqual(values, source.get(safetensorsName(name))!.data, name);
      }
    });

  for (const [weights, projectionBound] of [
    ['q8', 0.006],
    ['q4', 0.085],
  ] as const)
    it(`rounds within bounds in ${weights}`, async () => {
      for (const base of ['llama-untied', 'qwen3']) {
        const artifact = await imported(join(BASES, base), weights);
        const source = sourceTensors(base);
        for (const [name, entry] of Object.entries(artifact.manifest.matrices)) {
          const isOuter = name === 'embed_tokens' || name === 'lm_head';
          assert.equal(entry.kind, weights === 'q8' || isOuter ? 'int8' : 'int4', name);
          const error = relativeError(artifact.readMatrixF32(name), source.get(safetensorsName(name))!.data);
          const bound = isOuter ? 0.006 : projectionBound;
          assert.ok(error > bound / 20 && error < bound, `${base} ${name}: ${error}`);
        }
      }
    });

  it('describes the artifact in its manifest', async () => {
    const folder = join(root, 'described');
    const manifest = await importModel({
      sourcePath: join(BASES, 'llama-tied'),
      outputFolder: folder,
      weights: 'q4',
      name: 'tiny',
      source: 'a test',
      now: () => new Date(0),
    });
    assert.deepEqual(JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')), manifest);
    assert.deepEqual(openArtifact(folder).manifest, manifest);
    const { matrices, vectors, architecture, baseHash, ...rest } = manifest;
    assert.deepEqual(rest, {
      formatVersion: 1,
      name: 'tiny',
      source: 'a test',
      weights: 'q4',
      eosTokenIds: [2],
      bosTokenId: 1,
      addBos: false,
      createdAt: '1970-01-01T00:00:00.000Z',
    });
    assert.equal(architecture.tiedHead, true);
    assert.match(baseHash, /^[0-9a-f]{64}$/);
    assert.equal(Object.keys(matrices).length, 1 + 2 * 7);
    assert.equal(Object.keys(vectors).length, 1 + 2 * 2);
    for (const entry of Object.values(matrices)) assert.equal(entry.data.offset % 4096, 0);
    assert.deepEqual(readdirSync(folder).toSorted(), [
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'manifest.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'weights.bin',
    ]);
    assert.deepEqual(
      readFileSync(join(folder, 'tokenizer.json')),
      readFileSync(join(BASES, 'llama-tied', 'tokenizer.json')),
    );
  });

  it('reports progress up to the whole', async () => {
    const seen: number[] = [];
    await importModel({
      sourcePath: join(BASES, 'llama-tied'),
      outputFolder: join(root, 'progress'),
      weights: 'q8',
      name: 'tiny',
      source: 'test',
      onProgress: ({ done, total }) => seen.push(done / total),
    });
    assert.equal(seen.length, 20);
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    );
    assert.equal(seen.at(-1), 1);
  });

  it('gives one hash to one source however it is split, and another to other weights', async () => {
    const one = alteredBase('llama-tied', join(root, 'one'), () => undefined);
    const changed = alteredBase('llama-tied', join(root, 'changed'), (tensors) => {
      tensors.get('model.norm.weight')!.data[3]! += 0.5;
    });
    const sharded = join(root, 'sharded');
    cpSync(join(BASES, 'llama-untied'), sharded, { recursive: true });
    const joined = join(root, 'joined');
    cpSync(join(BASES, 'llama-untied'), joined, { recursive: true });
    joinShards(joined);
    const hashOf = async (path: string) => (await imported(path)).manifest.baseHash;
    assert.equal(await hashOf(one), await hashOf(join(BASES, 'llama-tied')));
    assert.notEqual(await hashOf(changed), await hashOf(one));
    assert.equal(await hashOf(sharded), await hashOf(joined));
  });

  it('hashes names, types, shapes and bytes', () => {
    const source = bytesSource('x', Uint8Array.of(1, 2, 3, 4));
    const tensor = { dtype: 'U8', shape: [2, 2], source, offset: 0, length: 4 };
    const hashes = [
      new Map([['a', tensor]]),
      new Map([['b', tensor]]),
      new Map([['a', { ...tensor, dtype: 'I8' }]]),
      new Map([['a', { ...tensor, shape: [4] }]]),
      new Map([['a', { ...tensor, source: bytesSource('x', Uint8Array.of(1, 2, 3, 5)) }]]),
    ].map(hashTensors);
    assert.equal(new Set(hashes).size, 5);
    const two = [
      ['a', tensor],
      ['b', tensor],
    ] as const;
    assert.equal(hashTensors(new Map(two)), hashTensors(new Map(two.toReversed())));
  });

  it('reads end-of-text ids from generation_config.json before config.json, and BOS from the tokenizer', async () => {
    const folder = alteredBase('llama-tied', join(root, 'tokens'), () => undefined);
    const write = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value));
    write('generation_config.json', { eos_token_id: [7, 2, 7], bos_token_id: 1 });
    const bosTemplate = {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    };
    write('tokenizer.json', {
      post_processor: { type: 'Sequence', processors: [{ type: 'ByteLevel' }, bosTemplate] },
    });
    const first = (await imported(folder)).manifest;
    assert.deepEqual([first.eosTokenIds, first.addBos], [[7, 2], true]);
    rmSync(join(folder, 'generation_config.json'));
    write('tokenizer_config.json', { add_bos_token: false });
    const second = (await imported(folder)).manifest;
    assert.deepEqual([second.eosTokenIds, second.bosTokenId, second.addBos], [[2], 1, false]);
  });

  it('takes a tied head that is saved although it equals the embedding', async () => {
    const folder = alteredBase('llama-tied', join(root, 'tied-saved'), (tensors) => {
      tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!);
      tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', { shape: [1], data: new Float32Array(1) });
    });
    assert.equal('lm_head' in (await imported(folder)).manifest.matrices, false);
  });
});

/** Rewrites the shards of a folder as one file of the same bytes. */
function joinShards(folder: string): void {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const file of readdirSync(folder).filter((name) => name.includes('-of-'))) {
    const bytes = readFileSync(join(folder, file));
    const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
    const { __metadata__: _, ...tensors } = JSON.parse(bytes.toString('utf8', 8, dataStart)) as Record<
      string,
      { data_offsets: [number, number] }
    >;
    for (const [name, { data_offsets: range, ...rest }] of Object.entries(tensors))
      header[name] = { ...rest, data_offsets: [range[0] + end, range[1] + end] };
    parts.push(bytes.subarray(dataStart));
    end += bytes.length - dataStart;
    rmSync(join(folder, file));
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, json, ...parts]));
  rmSync(join(folder, 'model.safetensors.index.json'));
}

describe('importModel refuses', () => {
  const q = 'model.layers.1.self_attn.q_proj.weight';
  const cases: readonly [string, string, (tensors: Map<string, PlainTensor>) => void, RegExp][] = [
    [
      'a missing tensor',
      'invalid_file',
      (tensors) => tensors.delete(q),
      /tensor `model\.layers\.1\.self_attn\.q_proj\.weight` of shape \[64, 64\] is missing/,
    ],
    [
      'an unknown tensor',
      'unsupported_model',
      (tensors) =>
        tensors.set('model.layers.0.self_attn.q_norm.weight', { shape: [2], data: new Float32Array(2) }),
      /tensor `model\.layers\.0\.self_attn\.q_norm\.weight` of shape \[2\] is no part/,
    ],
    [
      'another shape',
      'invalid_file',
      (tensors) => tensors.set(q, { shape: [32, 128], data: tensors.get(q)!.data }),
      /Expected tensor `.*q_proj\.weight` to have shape \[64, 64\], got \[32, 128\]/,
    ],
    [
      'a value that is not finite',
      'invalid_file',
      (tensors) => (tensors.get(q)!.data[64 * 5 + 3] = NaN),
      /tensor `.*q_proj\.weight` has the value NaN in row 5;/,
    ],
    [
      'a vector that is not finite',
      'invalid_file',
      (tensors) => (tensors.get('model.norm.weight')!.data[9] = Infinity),
      /tensor `model\.norm\.weight` has the value Infinity in row 9;/,
    ],
    [
      'a tied head that differs from the embedding',
      'unsupported_model',
      (tensors) => tensors.set('lm_head.weight', { shape: [320, 64], data: new Float32Array(320 * 64) }),
      /tensor `lm_head\.weight` of shape \[320, 64\] is no part/,
    ],
  ];
  for (const [what, code, alter, message] of cases)
    for (const weights of ['q4', 'f32'] as const)
      it(`${what} (${weights})`, async () => {
        const folder = alteredBase('llama-tied', join(root, `bad-${counter++}`), alter);
        await assert.rejects(imported(folder, weights), { name: 'GatewayError', code, message });
      });

  it('a path that is no checkpoint', async () => {
    const rejects = (path: string, code: string, message: RegExp) =>
      assert.rejects(imported(path), { name: 'GatewayError', code, message });
    await rejects(join(root, 'nowhere'), 'not_found', /nowhere does not exist/);
    await rejects(BASES, 'not_found', /has no config\.json/);
    await rejects(join(BASES, 'qwen2', 'config.json'), 'unsupported_model', /Expected a folder/);
    const empty = alteredBase('llama-tied', join(root, 'no-weights'), () => undefined);
    rmSync(join(empty, 'model.safetensors'));
    await rejects(empty, 'not_found', /neither model\.safetensors nor model\.safetensors\.index\.json/);
  });

  it('an index that does not fit its shards', async () => {
    const folder = join(root, 'bad-index');
    cpSync(join(BASES, 'llama-untied'), folder, { recursive: true });
    const write = (weightMap: Record<string, string>) =>
      writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    write({ 'lm_head.weight': '../model.safetensors' });
    await assert.rejects(imported(folder), { code: 'invalid_file', message: /to be a file name, got \.\./ });
    write({ 'model.nothing': 'model-00001-of-00004.safetensors' });
    await assert.rejects(imported(folder), {
      code: 'invalid_file',
      message: /says that tensor `model\.nothing` is in/,
    });
    write({ 'lm_head.weight': 'model-00004-of-00004.safetensors' });
    await assert.rejects(imported(folder), {
      code: 'invalid_file',
      message: /embed_tokens\.weight` .* is missing/,
    });
  });
});
