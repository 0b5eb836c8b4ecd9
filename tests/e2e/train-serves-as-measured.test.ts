// What was trained is what serves: for every method, the held-out loss that the trainer told of is that of the published adapter by the
// log-probabilities of `/v1/completions`; and each adapter answers beside all others as it does alone.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { join } from 'node:path';
import { DEFAULT_TARGETS, loraOfRank, type TrainingOptions } from '../../src/train/options.js';
import { BASE, greedyBody, runServer, temporaryFolder, upload } from '../helpers/running-server.js';
import {
  artifactOf,
  type ChatRow,
  type PairRow,
  type Rows,
  servedLoss,
  servedPreferenceLoss,
  trainOn,
} from '../helpers/trained-and-served.js';

/** How far the served loss may be from the trainer's, relatively. */
const TOLERANCE = 0.01;
/** How much training must have changed it, so that an adapter that is not there would be noticed. */
const LEAST_CHANGE = 0.05;

const chat = (number: number): ChatRow => ({
  messages: [
    { role: 'user', content: `${number}?` },
    { role: 'assistant', content: `abc ${number} abc` },
  ],
});
const numbers = Array.from({ length: 24 }, (_, i) => i + 10);
const rows: Rows<ChatRow> = {
  training: numbers.slice(0, 20).map(chat),
  heldOut: numbers.slice(20).map(chat),
};

const lora = loraOfRank(8);
const METHODS: Readonly<Record<string, Partial<TrainingOptions>>> = {
  lora: { method: lora, learningRate: 1e-2 },
  'lora-nf4': { method: lora, learningRate: 1e-2, frozenWeights: 'nf4' },
  bitfit: { method: { name: 'bitfit', targets: DEFAULT_TARGETS }, learningRate: 3e-2 },
  bottleneck: { method: { name: 'bottleneck', size: 16 }, learningRate: 1e-2 },
  prefix: {
    method: { name: 'prefix_tuning', numVirtualTokens: 8, projection: { hidden: 32 } },
    learningRate: 3e-2,
  },
  'p-tuning-v2': {
    method: { name: 'prefix_tuning', numVirtualTokens: 8, projection: null },
    learningRate: 0.1,
  },
  'p-tuning-mlp': {
    method: { name: 'p_tuning', numVirtualTokens: 8, encoder: 'mlp', hidden: 32 },
    learningRate: 1e-2,
  },
  'p-tuning-lstm': {
    method: { name: 'p_tuning', numVirtualTokens: 8, encoder: 'lstm', hidden: 32 },
    learningRate: 1e-2,
  },
  prompt: { method: { name: 'prompt_tuning', numVirtualTokens: 8, initText: null }, learningRate: 0.1 },
};

const pair = (number: number): PairRow => ({
  input: { messages: [{ role: 'user', content: `${number}?` }] },
  preferred_output: [{ role: 'assistant', content: `abc ${number}` }],
  non_preferred_output: [{ role: 'assistant', content: `no ${number} no` }],
});
const pairs: Rows<PairRow> = {
  training: numbers.slice(0, 20).map(pair),
  heldOut: numbers.slice(20).map(pair),
};

const server = await runServer({ after });
const folder = temporaryFolder({ after });
const artifact = artifactOf(server);
const baseLoss = await servedLoss(server, BASE, rows.heldOut);

function assertClose(served: number, trained: number): void {
  const off = Math.abs(served / trained - 1);
  assert(off <= TOLERANCE, `served ${served}, trained ${trained}: ${(100 * off).toFixed(2)} % apart`);
}

function assertLearned(served: number, before: number): void {
  assert(served < before * (1 - LEAST_CHANGE), `${before} before, served ${served}`);
}

async function publish(
  name: string,
  files: ReadonlyMap<string, Uint8Array>,
  url = server.url,
): Promise<void> {
  const response = await upload(url, name, files);
  assert.equal(response.status, 201, await response.text());
}

for (const [name, options] of Object.entries(METHODS))
  test(`${name}: the loss that the trainer told of is the loss that is served`, async () => {
    const run = await trainOn(artifact, join(folder, name), rows, { epochs: 6, ...options });
    await publish(name, run.files);
    const served = await servedLoss(server, name, rows.heldOut);
    assertClose(served, run.evalLoss);
    assertLearned(served, baseLoss);
  });

test('dpo: the loss of policy against reference is that of the two as they are served', async () => {
  const beta = 0.1;
  const options = { stage: 'dpo', method: lora, learningRate: 1e-2, epochs: 3 } as const;
  const dpo = { beta, loss: 'sigmoid', labelSmoothing: 0 } as const;
  const run = await trainOn(artifact, join(folder, 'dpo'), pairs, { ...options, dpo });
  await publish('dpo', run.files);
  const served = await servedPreferenceLoss(server, BASE, 'dpo', pairs.heldOut, beta);
  assertClose(served, run.evalLoss);
  assertLearned(served, Math.LN2);
});

test('full: the base that a run leaves has the loss that the trainer told of', async (t) => {
  const options = { method: { name: 'full' }, learningRate: 1e-3, epochs: 6 } as const;
  const run = await trainOn(artifact, join(folder, 'full'), rows, options);
  const own = await runServer(t, { model: run.adapterFolder });
  const { data } = await own.client.models.list();
  const served = await servedLoss(own, data[0]!.id, rows.heldOut);
  assertClose(served, run.evalLoss);
  assertLearned(served, baseLoss);
});

test('each adapter answers in one batch with all others as it does alone', async () => {
  const names = [BASE, ...Object.keys(METHODS), 'dpo'];
  const prompt = [1, 88, 86, 271, 202, 22, 19, 34, 2, 202];
  const ask = async (model: string) => {
    const answer = await server.client.completions.create(greedyBody(model, prompt));
    const { tokens, token_logprobs: scores } = answer.choices[0]!.logprobs!;
    return { tokens: tokens!, scores: scores! };
  };
  const alone: Awaited<ReturnType<typeof ask>>[] = [];
  for (const name of names) alone.push(await ask(name));
  const together = await Promise.all(names.map(ask));
  together.forEach(({ tokens, scores }, i) => {
    assert.deepEqual(tokens, alone[i]!.tokens, names[i]);
    const worst = Math.max(...scores.map((value, j) => Math.abs(value - alone[i]!.scores[j]!)));
    assert(worst <= 1e-3, `${names[i]}: log-probabilities differ by ${worst}`);
  });
  assert.equal(new Set(alone.map(({ scores }) => scores[0]!.toFixed(4))).size, names.length);
});

test('over a base in 4 bits: what is held as f32, as the served codes or in NF4 serves as it was measured', async (t) => {
  const quantized = await runServer(t, { weights: 'q4' });
  const before = await servedLoss(quantized, BASE, rows.heldOut);
  for (const frozenWeights of ['f32', 'int4', 'nf4'] as const) {
    const options = { method: lora, learningRate: 1e-2, epochs: 6, frozenWeights };
    const run = await trainOn(artifactOf(quantized), join(folder, `q4-${frozenWeights}`), rows, options);
    await publish(frozenWeights, run.files, quantized.url);
    const served = await servedLoss(quantized, frozenWeights, rows.heldOut);
    assertClose(served, run.evalLoss);
    assertLearned(served, before);
  }
});
