// The trainer's forward pass against PyTorch and PEFT, for every family: all sequences of a reference packed into one row, and each in
// a row of its own.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { adapterBase } from '../../src/adapters/base.js';
import { readPeft } from '../../src/adapters/peft.js';
import type { LoraAdapter } from '../../src/adapters/types.js';
import { type Projection, PROJECTIONS } from '../../src/model/architecture.js';
import type { BlockInputs, TrainingMethod } from '../../src/train/types.js';
import { fixedMethod } from '../helpers/fixed-method.js';
import { FIXTURES } from '../helpers/tiny-model.js';
import { batchOf } from '../helpers/train-fixtures.js';
import { trainingBase, type TrainingBase } from '../helpers/training-model.js';

const TOLERANCE = 1e-3;
const BASES = readdirSync(join(FIXTURES, 'bases')).filter((name) => name !== 'gemma3-text');
const ADAPTERS = ['lora-all-r8', 'lora-qv-r8', 'prefix-8', 'prompt-8'];

interface Expected {
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask: readonly (readonly number[])[];
  readonly token_logprobs: readonly (readonly number[])[];
}

for (const name of BASES)
  test(`${name}: log-probabilities are PyTorch's and PEFT's, packed and alone`, async () => {
    const base = await trainingBase(name);
    const folders = ADAPTERS.map((adapter) => join(FIXTURES, 'adapters', name, adapter)).filter(existsSync);
    await check(base, emptyMethod(base), join(FIXTURES, 'bases', name));
    for (const folder of folders) await check(base, await adapterMethod(base, folder), folder);
    await base.close();
  });

async function check(base: TrainingBase, method: TrainingMethod, folder: string): Promise<void> {
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected;
  const sequences = expected.input_ids.map((ids, i) => ({
    tokens: ids.filter((_, at) => expected.attention_mask[i]![at] === 1),
  }));
  const model = base.model(method);
  for (const batch of [batchOf([sequences]), batchOf(sequences.map((sequence) => [sequence]))]) {
    const actual = await model.logprobs(batch);
    const wanted = expected.token_logprobs.flat();
    assert.equal(actual.length, wanted.length);
    actual.forEach((value, i) =>
      assert(Math.abs(value - wanted[i]!) < TOLERANCE, `${folder} [${i}]: ${value}, expected ${wanted[i]}`),
    );
  }
}

function emptyMethod({ arch }: TrainingBase): TrainingMethod {
  const blocks = Array.from({ length: arch.numLayers }, () => new Map<string, Float32Array>());
  return fixedMethod({}, { blocks, virtualTokens: null, ends: null });
}

/** The adapter as it is served, put into the trainer's graphs. */
async function adapterMethod(base: TrainingBase, folder: string): Promise<TrainingMethod> {
  const files = new Map(
    readdirSync(folder)
      .filter((file) => file.startsWith('adapter_'))
      .map((file) => [file, new Uint8Array(readFileSync(join(folder, file)))] as const),
  );
  const { content } = await readPeft(files, adapterBase(base.artifact));
  if (content.kind === 'prompt') {
    const blocks = Array.from({ length: base.arch.numLayers }, () => new Map<string, Float32Array>());
    return fixedMethod({}, { blocks, virtualTokens: content.embeddings, ends: null });
  }
  if (content.kind === 'lora') return loraMethod(content);
  assert(content.kind === 'prefix');
  const blocks = content.layers.map(
    ({ k, v }) =>
      new Map([
        ['prefix.k', k],
        ['prefix.v', v],
      ]),
  );
  const inputs = { blocks, virtualTokens: null, ends: null };
  return fixedMethod({ numPrefixTokens: content.numVirtualTokens }, inputs);
}

function loraMethod({ layers, maxRank: rank }: LoraAdapter): TrainingMethod {
  const targets = PROJECTIONS.filter((projection) => layers[0]!.lora[projection]);
  const lora: Partial<Record<Projection, { rank: number; scale: number; dropout: number }>> = {};
  for (const projection of targets) lora[projection] = { rank, scale: 1, dropout: 0 };
  const blocks = layers.map((layer): BlockInputs => {
    const inputs = new Map<string, Float32Array>();
    for (const projection of targets) {
      const { a, b } = layer.lora[projection]!;
      inputs.set(`lora.${projection}.a`, transposed(a, a.length / rank));
      inputs.set(`lora.${projection}.b`, transposed(b, rank));
    }
    return inputs;
  });
  return fixedMethod({ lora }, { blocks, virtualTokens: null, ends: null });
}

function transposed(matrix: Float32Array, rows: number): Float32Array {
  const cols = matrix.length / rows;
  return matrix.map((_, i) => matrix[(i % rows) * cols + Math.floor(i / rows)]!);
}
