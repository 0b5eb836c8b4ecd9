// Full fine-tuning writes a checkpoint that is imported like any other: with the weights that were trained, to the bit where they stay f32.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openArtifact, type Artifact } from '../../src/model/artifact-reader.js';
import { importModel } from '../../src/model/import.js';
import type { TrainingMethod } from '../../src/train/types.js';
import { assertSame } from '../helpers/engine-runs.js';
import { temporaryFolder } from '../helpers/model-folder.js';
import { collect, request, tinyModel, type TinyModel } from '../helpers/tiny-model.js';
import { randomTokens } from '../helpers/random-lora.js';
import { openTinyEngine } from '../helpers/tiny-engine.js';
import { trainedMethod } from '../helpers/trained-method.js';

const BASES = ['llama-tied', 'llama-bias', 'qwen2', 'qwen3', 'mistral'];
const folder = temporaryFolder(after);

/** The method's files as a folder, and that folder imported. */
async function reimport(method: TrainingMethod, name: string, weights: 'f32' | 'q8'): Promise<Artifact> {
  const source = join(folder, `${name}-${weights}`);
  mkdirSync(source);
  for (const [file, bytes] of await method.files()) writeFileSync(join(source, file), bytes);
  const outputFolder = join(folder, `${name}-${weights}-artifact`);
  await importModel({ sourcePath: source, outputFolder, weights, name, source: name });
  return openArtifact(outputFolder);
}

async function answer(model: TinyModel, artifact: Artifact) {
  const open = await openTinyEngine(artifact);
  const prompt = randomTokens(3, 12, model.artifact.manifest.architecture.vocabSize);
  const result = await collect(open.engine.generate(request(prompt)));
  await open.dispose();
  return result;
}

for (const name of BASES) {
  const model = await tinyModel(name);
  after(() => model.dispose());

  test(`${name}: what was not trained answers as the base`, async () => {
    const method = await trainedMethod(model.artifact, { name: 'full' }, after, 0);
    const written = await reimport(method, `${name}-same`, 'f32');
    assert.deepEqual(written.manifest.architecture, model.artifact.manifest.architecture);
    assert.deepEqual(written.manifest.eosTokenIds, model.artifact.manifest.eosTokenIds);
    assert.equal(written.manifest.bosTokenId, model.artifact.manifest.bosTokenId);
    assert.equal(written.manifest.addBos, model.artifact.manifest.addBos);
    assertSame(await answer(model, written), await answer(model, model.artifact), name, 0);
  });

  test(`${name}: every trained weight is in the import`, async () => {
    const method = await trainedMethod(model.artifact, { name: 'full' }, after, 0.05);
    const written = await reimport(method, `${name}-moved`, 'f32');
    const { blocks, ends } = await method.inputs();
    const matrix = (at: string) => written.readMatrixF32(at);
    assert.deepEqual(matrix('embed_tokens'), ends!.embedding);
    assert.deepEqual(written.readVector('norm'), ends!.norm);
    if (ends!.head !== null) assert.deepEqual(matrix('lm_head'), ends!.head);
    assert.equal(ends!.head === null, written.manifest.architecture.tiedHead);
    blocks.forEach((block, layer) => {
      for (const [input, values] of block) {
        const [kind, part] = input.split('.') as [string, string];
        const path = /layernorm$/.test(part)
          ? part
          : `${/^(gate|up|down)_/.test(part) ? 'mlp' : 'self_attn'}.${part}`;
        const at = `layers.${layer}.${path}`;
        const found =
          kind === 'weight' ? matrix(at) : written.readVector(kind === 'bias' ? `${at}.bias` : at);
        assert.deepEqual(found, values, at);
      }
    });
    const count =
      Object.keys(written.manifest.matrices).length + Object.keys(written.manifest.vectors).length;
    assert.equal(method.parameters.length, count);
  });
}

test('trained from an 8-bit base and imported in 8 bits again: the same answers', async () => {
  const model = await tinyModel('llama-tied', 'q8');
  after(() => model.dispose());
  const method = await trainedMethod(model.artifact, { name: 'full' }, after, 0);
  const written = await reimport(method, 'from-q8', 'q8');
  assertSame(await answer(model, written), await answer(model, model.artifact), 'q8', 1e-2);
});

test('the folder is a checkpoint with its tokenizer', async () => {
  const model = await tinyModel('llama-tied');
  after(() => model.dispose());
  const method = await trainedMethod(model.artifact, { name: 'full' }, after, 0);
  await reimport(method, 'listed', 'f32');
  assert.deepEqual(readdirSync(join(folder, 'listed-f32')).toSorted(), [
    'chat_template.jinja',
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
});

test('gradients reach every weight, and norms and biases do not decay', async () => {
  const model = await tinyModel('llama-bias');
  after(() => model.dispose());
  const method = await trainedMethod(model.artifact, { name: 'full' }, after);
  const { blocks, ends } = await method.inputs();
  await method.backward({ blocks, virtualTokens: null, ends });
  for (const { name, shape, values, gradient, decay } of method.parameters) {
    assert.deepEqual(gradient, values, name);
    assert.equal(decay, shape.length === 2, name);
  }
});
