// `adapters export --merged` as transformers and the gguf package load it: the log-probabilities that are served, the same tokens, and
// the bytes of Q8_0 that gguf itself would make.
// Needs a Python with torch, transformers and gguf (PEFT_PYTHON, or python3); skipped where there is none.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { runCli } from '../../src/cli/program.js';
import { adapterBase } from '../../src/adapters/base.js';
import { readPeft } from '../../src/adapters/peft.js';
import { openTokenizer } from '../../src/tokenizer/open-tokenizer.js';
import { adapterFiles } from '../helpers/adapter-fixtures.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';
import { temporaryFolder } from '../helpers/model-folder.js';
import { randomTokens } from '../helpers/random-lora.js';
import { storeAdapter } from '../helpers/stored-adapter.js';
import { collect, request, tinyModel } from '../helpers/tiny-model.js';

const PYTHON = process.env['PEFT_PYTHON'] ?? 'python3';
const TOLERANCE = 1e-4;
const CASES = [
  ['llama-tied', 'dora-all-r8', ['safetensors', 'gguf']],
  // transformers' own reader of GGUF files leaves out biases of llama, and the head size of qwen3.
  ['llama-tied', 'lora-lorabias', ['safetensors']],
  ['qwen2', 'lora-bias-all', ['safetensors', 'gguf']],
  ['qwen3', 'lora-all-r8', ['safetensors']],
  ['mistral', 'lora-qv-r8', ['safetensors', 'gguf']],
] as const;
const TEXT = 'the 12345 words, é';
const MESSAGES = [{ role: 'user', content: 'Say the word.' }];
const found = spawnSync(PYTHON, ['-c', 'import torch, transformers, gguf']);
const skip = found.status === 0 ? false : `${PYTHON} has no torch, transformers and gguf (set PEFT_PYTHON)`;
const root = temporaryFolder(after);

interface Loaded {
  readonly logprobs: Readonly<Record<string, readonly number[]>>;
  readonly text_ids: readonly number[];
  readonly chat_ids: readonly number[];
  readonly fields: Readonly<Record<string, unknown>>;
  readonly q8_differences: readonly string[];
}

function askPython(input: object): Loaded {
  const { status, stdout, stderr } = spawnSync(PYTHON, [join(import.meta.dirname, 'export-loads.py')], {
    input: JSON.stringify(input),
    encoding: 'utf8',
    env: { ...process.env, HF_HUB_OFFLINE: '1', OMP_NUM_THREADS: '1' },
  });
  assert.equal(status, 0, stderr);
  const loaded: Loaded = JSON.parse(stdout);
  return loaded;
}

for (const [base, name, formats] of CASES)
  test(`${base} with ${name}: transformers and gguf load what is served`, { skip }, async () => {
    const model = await tinyModel(base);
    const { artifact } = model;
    const dataDir = join(root, `${base}-${name}`);
    mkdirSync(dataDir);
    const files = adapterFiles(base, name);
    await storeAdapter(dataDir, artifact, { owner: 'default', name }, files);
    const exported = async (file: string, ...options: string[]): Promise<string> => {
      const out = join(dataDir, file);
      const words = ['adapters', 'export', name, '--merged', '--data-dir', dataDir, '--out', out, ...options];
      const main = { prepareModel: () => Promise.resolve(artifact.folder) };
      const terminal = fakeTerminal();
      assert.equal(await runCli(words, terminal, () => Promise.resolve(main as never)), 0, terminal.err());
      return out;
    };
    const engine = await model.open();
    const { content } = await readPeft(files, adapterBase(artifact));
    assert.equal(content.kind, 'lora');
    // Within mistral's window of 8 keys, which GGUF has no words for.
    const ids = randomTokens(5, 8, artifact.manifest.architecture.vocabSize);
    const asked = request(ids, { adapter: content, promptLogprobs: true });
    const served = (await collect(engine.engine.generate(asked))).promptLogprobs!.slice(1);
    await engine.dispose();

    const loaded = askPython({
      ids,
      formats,
      text: TEXT,
      messages: MESSAGES,
      folder: await exported('merged'),
      gguf: await exported('merged.gguf', '--format', 'gguf'),
      q8: await exported('q8.gguf', '--format', 'gguf', '--type', 'q8_0'),
    });
    assert.deepEqual(Object.keys(loaded.logprobs), formats);
    for (const [format, logprobs] of Object.entries(loaded.logprobs)) {
      const worst = Math.max(...logprobs.map((value: number, i: number) => Math.abs(value - served[i]!)));
      assert(worst <= TOLERANCE, `${format}: log-probabilities differ by ${worst}`);
    }
    const tokenizer = openTokenizer(artifact.folder);
    assert.deepEqual(loaded.text_ids, tokenizer.encode(TEXT));
    assert.deepEqual(loaded.chat_ids, tokenizer.encodeChat(MESSAGES));
    assert.deepEqual(loaded.fields, {
      'general.architecture': base === 'mistral' ? 'llama' : artifact.manifest.architecture.family,
      'tokenizer.ggml.pre': 'smollm',
      'tokenizer.ggml.eos_token_id': 2,
    });
    assert.deepEqual(loaded.q8_differences, []);
    model.dispose();
  });
