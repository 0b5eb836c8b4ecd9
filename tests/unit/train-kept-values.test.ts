// Gradient checkpointing that keeps what a budget allows: how much that is, and that nothing else changes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { PROJECTIONS, type Architecture, type Projection } from '../../src/model/architecture.js';
import { product } from '../../src/train/autodiff/shapes.js';
import { NO_ADDITIONS } from '../../src/train/graphs/block-inputs.js';
import { blockPasses } from '../../src/train/graphs/block-passes.js';
import { keptWidth, numKeptBlocks } from '../../src/train/graphs/kept-values.js';
import { createLoraMethod } from '../../src/train/methods/lora.js';
import { MAX_GROUP_TOKENS } from '../../src/train/model-view.js';
import type { Weigh } from '../../src/train/types.js';
import { assertClose, sequence } from '../helpers/gradient-check.js';
import { batchOf } from '../helpers/train-fixtures.js';
import { LORA_R8, trainingBase } from '../helpers/training-model.js';

const base = await trainingBase('llama-tied');
after(() => base.close());

const F32 = Object.fromEntries(PROJECTIONS.map((each) => [each, { kind: 'f32' }])) as Record<
  Projection,
  { readonly kind: 'f32' }
>;

test('what is kept of a block is as large as the plan says, and saves the projections of the backward pass', () => {
  const lora = Object.fromEntries(PROJECTIONS.map((each) => [each, { rank: 3, scale: 1, dropout: 0 }]));
  const spec = {
    arch: base.arch,
    additions: { ...NO_ADDITIONS, lora },
    forms: F32,
    precision: 'f32' as const,
    numRows: 2,
    numTokens: 16,
    dropout: false,
  };
  const { forward, backward, kept } = blockPasses(spec, 'products');
  const size = forward.graph.outputs
    .filter(({ name }) => kept.includes(name))
    .reduce((sum, { shape }) => sum + product(shape as readonly number[]), 0);
  assert.equal(size, 2 * 16 * keptWidth(base.arch, 3 * PROJECTIONS.length));
  const products = (nodes: readonly { readonly op: string }[]): number =>
    nodes.filter(({ op }) => op === 'FusedMatMul').length;
  const anew = blockPasses(spec, 'nothing').backward.graph.nodes;
  // The scores alone are computed again: not 2 products of each of 6 projections, x · aᵀ of the 4 inputs, and what the heads give.
  assert.equal(products(anew) - products(backward.graph.nodes), 2 * 6 + 4 + 1);
});

test('fewer blocks are kept the more tokens wait, within 168 MB, down to none', () => {
  const arch: Architecture = {
    ...base.arch,
    hiddenSize: 576,
    numLayers: 30,
    numHeads: 9,
    numKvHeads: 3,
    headDim: 64,
    intermediateSize: 1536,
  };
  const counts = [64, 256, 512, 4096, 65_536].map((tokens) => numKeptBlocks(arch, 112, tokens));
  assert.deepEqual(counts, [30, 30, 15, 1, 0]);
  for (const tokens of [512, 1024, 2048])
    assert(4 * numKeptBlocks(arch, 112, tokens) * tokens * keptWidth(arch, 112) <= 168e6);
});

test('a batch whose groups go one after another has the gradients of one whose groups go together', async () => {
  const random = sequence(3);
  const length = Math.ceil(MAX_GROUP_TOKENS / 2) + 1;
  const row = () => [{ tokens: Array.from({ length }, () => 4 + Math.floor(random() * 300)) }];
  const batch = batchOf([row(), row(), row()]);
  const method = createLoraMethod(base.artifact.manifest, LORA_R8, 5);
  for (const { name, values } of method.parameters)
    if (name.includes('lora_B')) values.forEach((_, i) => (values[i] = (random() - 0.5) / 5));
  const model = base.model(method);
  const run = async (weigh: Weigh) => {
    for (const { gradient } of model.parameters) gradient.fill(0);
    const logprobs = await model.accumulate(batch, weigh, null);
    return { logprobs, gradients: model.parameters.map(({ gradient }) => gradient.slice()) };
  };
  const calls: number[] = [];
  const weigh = (logprobs: Float32Array) => {
    calls.push(logprobs.length);
    return logprobs.map((logprob) => 0.1 * logprob);
  };
  const together = await run(weigh);
  const apart = await run(Object.assign(weigh.bind(null), { isPointwise: true }));
  const each = length - 1;
  assert.deepEqual(calls, [3 * each, each, each, each]);
  assertClose(apart.logprobs, together.logprobs, 1e-5, 'log-probabilities');
  apart.gradients.forEach((gradient, i) =>
    assertClose(gradient, together.gradients[i]!, 1e-4, `gradient ${i}`),
  );
});
