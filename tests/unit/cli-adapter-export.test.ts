// `adapters export` over a data folder: which adapter is meant, what is written, and every refusal with its exit code.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runCli } from '../../src/cli/program.js';
import type { LoadMain } from '../../src/cli/program.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readGguf } from '../../src/formats/gguf.js';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { adapterFiles } from '../helpers/adapter-fixtures.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';
import { temporaryFolder } from '../helpers/model-folder.js';
import { storeAdapter } from '../helpers/stored-adapter.js';
import { type TinyModel, tinyModel } from '../helpers/tiny-model.js';

const root = temporaryFolder(after);
const dataDir = join(root, 'data');
let model: TinyModel;
let counter = 0;

before(async () => {
  model = await tinyModel('llama-tied');
  mkdirSync(dataDir);
  const store = (owner: string, name: string, fixture: string) =>
    storeAdapter(dataDir, model.artifact, { owner, name }, adapterFiles('llama-tied', fixture));
  await store('default', 'legal', 'lora-qv-r8');
  await store('default', 'legal', 'lora-all-r8');
  await store('default', 'prefix', 'prefix-8');
  await store('default', 'prompt', 'prompt-8');
  await store('acme', 'style', 'ia3');
});
after(() => model.dispose());

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly path: string;
}

/** `name` is that of the new path; null names none. */
async function run(
  reference: string,
  words: readonly string[],
  name: string | null = `export-${counter++}`,
): Promise<Run> {
  const terminal = fakeTerminal();
  const path = join(root, name ?? 'none');
  const loadMain = () => Promise.resolve({ prepareModel: () => Promise.resolve(model.artifact.folder) });
  const all = [
    'adapters',
    'export',
    reference,
    '--data-dir',
    dataDir,
    ...(name === null ? [] : ['--out', path]),
    ...words,
  ];
  // Of main.ts, an export asks for the converted model alone.
  const code = await runCli(all, terminal, loadMain as unknown as LoadMain);
  return { code, out: terminal.out(), err: terminal.err(), path };
}

test('without --merged, the files are those that were uploaded', async () => {
  for (const [reference, fixture] of [
    ['legal', 'lora-all-r8'],
    ['legal@1', 'lora-qv-r8'],
    ['acme/style', 'ia3'],
  ] as const) {
    const { code, out, path } = await run(reference, []);
    assert.deepEqual([code, out], [0, `${path}\n`]);
    assert.deepEqual(readdirSync(path).toSorted(), ['adapter_config.json', 'adapter_model.safetensors']);
    const uploaded = adapterFiles('llama-tied', fixture);
    for (const file of readdirSync(path))
      assert.deepEqual(new Uint8Array(readFileSync(join(path, file))), new Uint8Array(uploaded.get(file)!));
  }
});

test('a merged folder has all that transformers wants, in the numbers asked for', async () => {
  const { code, path, err } = await run('legal', ['--merged', '--type', 'bf16']);
  assert.equal(code, 0, err);
  assert.deepEqual(readdirSync(path).toSorted(), [
    'chat_template.jinja',
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const config: Record<string, unknown> = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  assert.deepEqual([config['architectures'], config['torch_dtype']], [['LlamaForCausalLM'], 'bfloat16']);
  const weights = bytesSource('model', readFileSync(join(path, 'model.safetensors')));
  const { tensors, metadata } = readSafetensorsHeader(weights);
  assert(
    tensors.get('model.layers.0.self_attn.q_proj.weight')?.dtype === 'BF16' && !tensors.has('lm_head.weight'),
  );
  assert.equal(metadata.get('format'), 'pt');
});

test('a merged GGUF says what it is, and has matrices in the type asked for', async () => {
  const { code, path, err } = await run(
    'legal',
    ['--merged', '--format', 'gguf', '--type', 'q8_0'],
    'a.gguf',
  );
  assert.equal(code, 0, err);
  const { metadata, tensors } = readGguf(bytesSource('a.gguf', readFileSync(path)));
  assert.equal(metadata.get('general.name'), 'llama-tied-legal');
  assert.equal(metadata.get('general.file_type'), 7);
  assert.equal(metadata.get('tokenizer.ggml.model'), 'gpt2');
  assert.equal(tensors.get('blk.0.attn_q.weight')?.type, 'Q8_0');
  assert.equal(tensors.get('blk.0.attn_norm.weight')?.type, 'F32');
});

test('a rotary scaling that is served becomes the own one of the result', async () => {
  const { code, path, err } = await run('legal', ['--merged', '--rope-scaling', 'yarn:2']);
  assert.equal(code, 0, err);
  const config: Record<string, unknown> = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  const { contextLength } = model.artifact.manifest.architecture;
  const { rope_type: type, factor } = config['rope_scaling'] as Record<string, unknown>;
  assert.deepEqual([type, factor, config['max_position_embeddings']], ['yarn', 2, 2 * contextLength]);
});

test('what cannot be merged is refused by name, and nothing is written', async () => {
  for (const name of ['prefix', 'prompt']) {
    const { code, err, path } = await run(name, ['--merged']);
    assert.equal(code, 1);
    assert.match(err, new RegExp(`${name} cannot be merged: it has 8 virtual tokens`));
    assert(!existsSync(path));
  }
});

test('an unknown name, version or owner is told apart from what exists', async () => {
  for (const reference of ['unknown', 'legal@3', 'style', 'nobody/legal', 'a/b/c']) {
    const { code, err } = await run(reference, []);
    assert.deepEqual([code, err.includes(`The adapter "${reference}" does not exist`)], [1, true], err);
  }
});

test('an existing path is left as it is', async () => {
  const { path } = await run('legal', [], 'taken');
  const again = await run('legal', ['--merged'], 'taken');
  assert.equal(again.code, 1);
  assert.match(again.err, /taken exists already; remove it or name another place/);
  assert.equal(readdirSync(path).length, 2);
});

test('options that contradict each other are a wrong command line', async () => {
  const cases = [
    [['--format', 'gguf'], /`merged` to be on with `format` `gguf`/],
    [['--type', 'f16'], /`merged` to be on with `type` `f16`/],
    [['--merged', '--type', 'q8_0'], /`format` to be gguf with `type` q8_0/],
    [['--merged', '--type', 'q4_0'], /to be f32, f16, bf16 or q8_0, got `q4_0`/],
  ] as const;
  for (const [words, message] of cases) {
    const { code, err } = await run('legal', words);
    assert.equal(code, 2);
    assert.match(err, message);
  }
  const { code, err } = await run('legal', [], null);
  assert.deepEqual([code, err], [2, 'Expected `out` to be given: the new folder or file\n']);
});
