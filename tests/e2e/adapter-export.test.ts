// A merged export, imported again as a base of its own, answers as the base with the adapter does: every kind of adapter, both formats.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { adapterBase } from '../../src/adapters/base.js';
import { combineLoras } from '../../src/adapters/combination.js';
import { mergeable } from '../../src/adapters/merge-weights.js';
import { addedBiases, mergedModel } from '../../src/adapters/merged-model.js';
import { createPacer } from '../../src/adapters/pacer.js';
import { readPeft } from '../../src/adapters/peft.js';
import type { LoraAdapter } from '../../src/adapters/types.js';
import { type Artifact, openArtifact } from '../../src/model/artifact-reader.js';
import { type ExportFormat, withBiases } from '../../src/model/export-biases.js';
import { exportGguf } from '../../src/model/export-gguf.js';
import { exportSafetensors } from '../../src/model/export-safetensors.js';
import { importModel } from '../../src/model/import.js';
import { temporaryFolder } from '../helpers/model-folder.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { openTinyEngine } from '../helpers/tiny-engine.js';
import { collect, request, type TinyModel, tinyModel } from '../helpers/tiny-model.js';
import { ADAPTER_METHODS, trainedMethod } from '../helpers/trained-method.js';

const TOLERANCE = 1e-4;
const NUM_TOKENS = 24;
const root = temporaryFolder(after);
let counter = 0;

type Score = number | null;

async function scores(
  artifact: Artifact,
  adapter: LoraAdapter | null,
  numTokens = NUM_TOKENS,
): Promise<readonly Score[]> {
  const engine = await openTinyEngine(artifact);
  try {
    const ids = randomTokens(5, numTokens, artifact.manifest.architecture.vocabSize);
    const result = await collect(engine.engine.generate(request(ids, { adapter, promptLogprobs: true })));
    return result.promptLogprobs!.slice(1);
  } finally {
    await engine.dispose();
  }
}

/** The export's path. */
async function exported(artifact: Artifact, adapter: LoraAdapter, format: ExportFormat): Promise<string> {
  const architecture = withBiases(artifact.manifest.architecture, addedBiases(adapter), format);
  const model = mergedModel(artifact, adapter, architecture);
  const path = join(root, format === 'gguf' ? `${counter++}.gguf` : `${counter++}`);
  // Small files, so that the largest base takes several.
  if (format === 'gguf') await exportGguf(model, path, { type: 'F32', tokenizer: {} });
  else await exportSafetensors(model, path, { type: 'F32', files: new Map(), maxShardBytes: 200_000 });
  return path;
}

async function imported(sourcePath: string): Promise<Artifact> {
  const outputFolder = join(root, `${counter++}`);
  await importModel({ sourcePath, outputFolder, weights: 'f32', name: 'merged', source: 'test' });
  return openArtifact(outputFolder);
}

function worst(a: readonly Score[], b: readonly Score[]): number {
  return Math.max(...a.map((value, i) => Math.abs(value! - b[i]!)));
}

async function checkMerged(
  { artifact }: TinyModel,
  title: string,
  adapter: LoraAdapter,
  formats: readonly ExportFormat[] = ['safetensors', 'gguf'],
): Promise<void> {
  const { slidingWindow } = artifact.manifest.architecture;
  for (const format of formats) {
    // llama.cpp's llama has no window: it gets no longer context than that.
    const numTokens = format === 'gguf' ? (slidingWindow ?? NUM_TOKENS) : NUM_TOKENS;
    const served = await scores(artifact, adapter, numTokens);
    assert(worst(served, await scores(artifact, null, numTokens)) > 0.01, `${title} changes the answer`);
    const merged = await imported(await exported(artifact, adapter, format));
    const { contextLength } = merged.manifest.architecture;
    const difference = worst(served, await scores(merged, null, numTokens));
    assert(difference <= TOLERANCE, `${title} as ${format}: ${difference}`);
    if (format === 'gguf' && slidingWindow !== null) assert.equal(contextLength, slidingWindow);
  }
}

async function fixture(model: TinyModel, name: string): Promise<LoraAdapter> {
  const engine = await model.open();
  const adapter = await model.adapter(name, engine);
  await engine.dispose();
  return mergeable(name, adapter);
}

const FIXTURES: Readonly<Record<string, readonly string[]>> = {
  'llama-tied': ['lora-qv-r8', 'lora-rslora', 'dora-all-r8', 'ia3', 'loha', 'lokr', 'lora-lorabias'],
  'llama-bias': ['lora-bias-all', 'lora-bias-lora-only'],
  qwen2: ['dora-all-r8', 'ia3', 'lora-bias-all'],
  qwen3: ['lora-all-r8'],
  mistral: ['lora-qv-r8'],
};

for (const [base, names] of Object.entries(FIXTURES))
  test(`${base}: merged and imported again, ${names.join(', ')} answer as they are served`, async () => {
    const model = await tinyModel(base);
    for (const name of names) await checkMerged(model, name, await fixture(model, name));
    model.dispose();
  });

for (const base of ['llama-untied', 'llama-rope-llama3', 'llama-rope-yarn', 'llama-rope-linear'])
  test(`${base}: rotary scaling and an own head survive the export`, async () => {
    const model = await tinyModel(base);
    await checkMerged(model, 'random', randomLora(model.artifact.manifest.architecture, 3));
    model.dispose();
  });

test('combinations are merged as their sum', async () => {
  const model = await tinyModel('llama-tied');
  const [first, second] = [await fixture(model, 'lora-all-r8'), await fixture(model, 'loha')];
  const parts = [
    { adapter: first, scale: 0.5 },
    { adapter: second, scale: -1.5 },
  ];
  const { architecture } = model.artifact.manifest;
  await checkMerged(model, 'sum', await combineLoras(architecture, 'sum', parts, createPacer()));
  model.dispose();
});

test('trained biases become biases of the architecture, or are refused where it has none', async () => {
  const expectations = [
    ['llama-tied', ['safetensors', 'gguf']],
    ['mistral', ['gguf']],
    ['qwen2', []],
  ] as const;
  for (const [base, formats] of expectations) {
    const model = await tinyModel(base);
    const method = await trainedMethod(model.artifact, ADAPTER_METHODS['bitfit']!, after);
    const { content } = await readPeft(await method.files(), adapterBase(model.artifact));
    const adapter = mergeable('bitfit', content);
    await checkMerged(model, `bitfit on ${base}`, adapter, formats);
    for (const format of ['safetensors', 'gguf'] as const)
      if (!(formats as readonly string[]).includes(format))
        await assert.rejects(exported(model.artifact, adapter, format), {
          code: 'unsupported_model',
          message: /has biases on .*o_proj.*, which .* has no place for in the (mistral|qwen2) family/,
        });
    model.dispose();
  }
});

test('a base with quantized weights is merged as it is served: its own values are exact', async () => {
  const model = await tinyModel('llama-tied', 'q4');
  const { architecture } = model.artifact.manifest;
  const adapter = randomLora(architecture, 4, { projections: ['q_proj'] });
  const again = await imported(await exported(model.artifact, adapter, 'gguf'));
  for (const name of ['layers.0.mlp.down_proj', 'layers.0.self_attn.k_proj', 'embed_tokens'])
    assert.deepEqual(again.readMatrixF32(name), model.artifact.readMatrixF32(name), name);
  assert.notDeepEqual(
    again.readMatrixF32('layers.0.self_attn.q_proj'),
    model.artifact.readMatrixF32('layers.0.self_attn.q_proj'),
  );
  model.dispose();
});

test('a large export is several files behind an index, each within the limit', async () => {
  const model = await tinyModel('llama-untied');
  const adapter = randomLora(model.artifact.manifest.architecture, 3);
  const folder = await exported(model.artifact, adapter, 'safetensors');
  const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  assert(files.length > 1);
  const index: { weight_map: Record<string, string> } = JSON.parse(
    readFileSync(join(folder, 'model.safetensors.index.json'), 'utf8'),
  );
  assert.deepEqual([...new Set(Object.values(index.weight_map))].toSorted(), files.toSorted());
  model.dispose();
});

test('nothing is left of an export that fails or is interrupted, and nothing is overwritten', async () => {
  const model = await tinyModel('llama-tied');
  const { architecture } = model.artifact.manifest;
  const adapter = randomLora(architecture, 3);
  const merged = mergedModel(model.artifact, adapter, architecture);
  const before = readdirSync(root);
  const path = join(root, 'interrupted.gguf');
  const controller = new AbortController();
  const onValues = () => controller.abort(new Error('stopped'));
  const options = { type: 'F16', tokenizer: {}, onValues, signal: controller.signal } as const;
  await assert.rejects(exportGguf(merged, path, options), /stopped/);
  const huge = randomLora(architecture, 3, { strength: 1e6 });
  await assert.rejects(
    exportSafetensors(mergedModel(model.artifact, huge, architecture), path, {
      type: 'F16',
      files: new Map(),
    }),
    {
      code: 'invalid_value',
      message: /^layers\.0\.self_attn\.q_proj has the value .*, beyond F16; choose f32/,
    },
  );
  assert.deepEqual(readdirSync(root), before);
  await exportGguf(merged, path, { type: 'F16', tokenizer: {} });
  const first = readFileSync(path);
  await assert.rejects(exportGguf(merged, path, { type: 'F32', tokenizer: {} }), { code: 'invalid_value' });
  assert.deepEqual(readFileSync(path), first);
  assert(existsSync(path));
  model.dispose();
});
