// Adapters and checkpoints as the training methods write them, loaded by PEFT and transformers: the same log-probabilities as served here.
// Needs a Python with torch, transformers and peft (PEFT_PYTHON, or python3); skipped where there is none.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readPeft } from '../../src/adapters/peft.js';
import { adapterBase } from '../../src/adapters/base.js';
import { writeSafetensors } from '../../src/formats/safetensors.js';
import { importModel } from '../../src/model/import.js';
import { openArtifact } from '../../src/model/artifact-reader.js';
import { tensorsOf } from '../../src/train/methods/peft-files.js';
import { BASES, temporaryFolder } from '../helpers/model-folder.js';
import { openTinyEngine } from '../helpers/tiny-engine.js';
import { collect, request, tinyModel } from '../helpers/tiny-model.js';
import { randomTokens } from '../helpers/random-lora.js';
import { ADAPTER_METHODS, trainedMethod } from '../helpers/trained-method.js';

const PYTHON = process.env['PEFT_PYTHON'] ?? 'python3';
const TOLERANCE = 1e-4;
const MODELS = ['llama-tied', 'llama-bias', 'qwen2', 'qwen3', 'mistral'];
const PEFT_METHODS = Object.entries(ADAPTER_METHODS).filter(
  ([, { name }]) => name !== 'bitfit' && name !== 'bottleneck',
);
const found = spawnSync(PYTHON, ['-c', 'import torch, transformers, peft']);
const skip = found.status === 0 ? false : `${PYTHON} has no torch, transformers and peft (set PEFT_PYTHON)`;
const folder = temporaryFolder(after);

interface PythonCase {
  readonly base: string;
  readonly adapter?: string;
  readonly parameters?: string;
}
interface PythonResult {
  readonly logprobs: readonly number[];
  readonly encoder_difference: number | null;
}

function askPython(ids: readonly number[], cases: readonly PythonCase[]): readonly PythonResult[] {
  const script = join(import.meta.dirname, 'peft-logprobs.py');
  const { status, stdout, stderr } = spawnSync(PYTHON, [script], {
    input: JSON.stringify({ ids, cases }),
    encoding: 'utf8',
    env: { ...process.env, HF_HUB_OFFLINE: '1', OMP_NUM_THREADS: '1' },
  });
  assert.equal(status, 0, stderr);
  const results: readonly PythonResult[] = JSON.parse(stdout);
  return results;
}

function writeFolder(name: string, files: ReadonlyMap<string, Uint8Array>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, bytes] of files) writeFileSync(join(path, file), bytes);
  return path;
}

for (const base of MODELS)
  test(`${base}: PEFT and transformers compute what is served`, { skip }, async () => {
    const model = await tinyModel(base);
    const engine = await model.open();
    const ids = randomTokens(5, 14, model.artifact.manifest.architecture.vocabSize);
    const ask = async (open: typeof engine, adapter: Parameters<typeof request>[1] = {}) => {
      const result = await collect(open.engine.generate(request(ids, { ...adapter, promptLogprobs: true })));
      return result.promptLogprobs!.slice(1);
    };
    const cases: PythonCase[] = [];
    const served: (number | null)[][] = [];
    for (const [title, options] of PEFT_METHODS) {
      const method = await trainedMethod(model.artifact, options, after);
      const files = await method.files();
      const adapter = writeFolder(`${base}-${title}`, files);
      const parameters = join(adapter, 'encoder.safetensors');
      const hasEncoder =
        method.parameters[0]!.name.startsWith('prompt_encoder.') && options.name !== 'prompt_tuning';
      if (hasEncoder) writeFileSync(parameters, writeSafetensors(tensorsOf(method.parameters)));
      cases.push({ base: join(BASES, base), adapter, ...(hasEncoder ? { parameters } : {}) });
      const { content } = await readPeft(files, adapterBase(model.artifact));
      const loaded = content.kind === 'prompt' ? await engine.engine.computePrefix(content) : content;
      served.push(await ask(engine, { adapter: loaded }));
    }
    const full = await trainedMethod(model.artifact, { name: 'full' }, after, 0.05);
    const checkpoint = writeFolder(`${base}-full`, await full.files());
    const outputFolder = join(folder, `${base}-artifact`);
    await importModel({ sourcePath: checkpoint, outputFolder, weights: 'f32', name: base, source: base });
    const moved = await openTinyEngine(openArtifact(outputFolder));
    cases.push({ base: checkpoint });
    served.push(await ask(moved));
    await moved.dispose();
    await engine.dispose();
    model.dispose();

    const titles = [...PEFT_METHODS.map(([title]) => title), 'full'];
    askPython(ids, cases).forEach(({ logprobs, encoder_difference: difference }, i) => {
      const worst = Math.max(...logprobs.map((value, j) => Math.abs(value - served[i]![j]!)));
      assert(worst <= TOLERANCE, `${titles[i]}: log-probabilities differ by ${worst}`);
      assert.equal(difference === null, cases[i]!.parameters === undefined);
      assert((difference ?? 0) <= 1e-5, `${titles[i]}: the encoder differs from PEFT's by ${difference}`);
    });
    const distinct = new Set(served.map((scores) => scores[5]!.toFixed(4)));
    assert.equal(distinct.size, served.length, 'every method changes the answer in its own way');
  });
