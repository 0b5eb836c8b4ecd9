// A batch's way through a model: forward for log-probabilities, forward and backward for gradients. Group after group of rows, block after
// block. Where the weights of a group's tokens depend on no other group, it goes forward and backward before the next one begins: then the
// activations of one group are in memory, however large the batch.

import { assert } from '../errors.js';
import type { TrainingBatch } from '../data/types.js';
import type { RowGroup } from './batch-layout.js';
import { backwardStack, forwardStack, inferStack, type StackTools, type Trace } from './block-stack.js';
import { addBlockGradients, zeroGradients } from './gradient-sums.js';
import type { HeadRows, HeadRunner } from './graphs/head-runner.js';
import { joinArrays, joinRows, predictingRows, spreadRows, weighRows } from './head-rows.js';
import { embed, scatterEmbeddingGradient } from './model-ends.js';
import type { ModelView } from './model-view.js';
import type { MethodGradients, MethodInputs, Weigh } from './types.js';

/** What computes a batch. */
export interface Pass {
  readonly view: ModelView;
  readonly head: HeadRunner;
  readonly tools: StackTools;
  readonly inputs: MethodInputs;
}

/** Log-probabilities of the supervised tokens. */
export async function inferBatch(pass: Pass, batch: TrainingBatch): Promise<Float32Array> {
  const { view, head, tools, inputs } = pass;
  const ends = view.ends(inputs);
  const parts: HeadRows[] = [];
  for (const group of view.layout(batch, inputs)) {
    const x = embed(ends, group.tokens, inputs.virtualTokens, takeActivations(pass, group));
    const run = { group, inputs: inputs.blocks, seed: null, numHeldTokens: 0 };
    const output = await inferStack(view.runner(), run, x, tools);
    parts.push(predictingRows(output, group));
    tools.pool.give(output);
  }
  return head.logprobs(ends, joinRows(parts), null);
}

/** The same, and the gradients of their sum weighted by `weigh`, in arrays of the pool. `seed` decides dropout. */
export async function differentiateBatch(
  pass: Pass,
  batch: TrainingBatch,
  weigh: Weigh,
  seed: number | null,
): Promise<{ readonly logprobs: Float32Array; readonly gradients: MethodGradients }> {
  const { view, inputs } = pass;
  const gradients = zeroGradients(view.arch, view.additions, inputs, pass.tools.pool);
  const seeded = view
    .layout(batch, inputs)
    .map((group, index) => ({ group, seed: seed === null ? null : [seed, index] }));
  const learned = seeded.filter(({ group }) => group.predicting.length > 0);
  const parts = weigh.isPointwise === true ? learned.map((each) => [each]) : [seeded];
  const logprobs: Float32Array[] = [];
  for (const part of parts) logprobs.push(await differentiateGroups(pass, part, weigh, gradients));
  return { logprobs: joinArrays(logprobs), gradients };
}

/** Groups whose tokens are weighed together; gradients are added to `gradients`. */
async function differentiateGroups(
  pass: Pass,
  part: readonly { readonly group: RowGroup; readonly seed: readonly number[] | null }[],
  weigh: Weigh,
  gradients: MethodGradients,
): Promise<Float32Array> {
  const { view, tools, inputs } = pass;
  const { hiddenSize } = view.arch;
  const groups = part.map(({ group }) => group);
  const numHeldTokens = groups.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const traces: Trace[] = [];
  for (const { group, seed } of part) {
    const ends = view.ends(inputs);
    const x = embed(ends, group.tokens, inputs.virtualTokens, takeActivations(pass, group));
    const run = { group, inputs: inputs.blocks, seed, numHeldTokens };
    traces.push(await forwardStack(view.runner(), run, x, tools));
  }
  const rows = joinRows(groups.map((group, i) => predictingRows(traces[i]!.output, group)));
  for (const { output } of traces) tools.pool.give(output);
  const { logprobs, hidden } = await differentiateHead(pass, rows, weigh, gradients);
  let start = 0;
  for (const [index, group] of groups.entries()) {
    const end = start + group.predicting.length * hiddenSize;
    const dy = spreadRows(hidden.subarray(start, end), group, takeActivations(pass, group));
    start = end;
    const collect = addBlockGradients.bind(null, gradients);
    const dx = await backwardStack(view.runner(), traces[index]!, dy, collect, tools);
    scatterEmbeddingGradient(dx, group.tokens, gradients, hiddenSize);
    tools.pool.give(dx);
  }
  return logprobs;
}

/** [B*S, H] of the pool. */
function takeActivations({ view, tools }: Pass, { tokens }: RowGroup): Float32Array {
  return tools.pool.take(tokens.length * view.arch.hiddenSize);
}

/** Log-probabilities, and d(weighted sum)/d rows; the gradients of trained ends are added to `gradients`. */
async function differentiateHead(
  { view, head, inputs }: Pass,
  rows: HeadRows,
  weigh: Weigh,
  gradients: MethodGradients,
): Promise<{ readonly logprobs: Float32Array; readonly hidden: Float32Array }> {
  const ends = view.ends(inputs);
  const rowGradients = gradients.ends === null ? new Float32Array(rows.hidden.length) : null;
  const logprobs = await head.logprobs(ends, rows, rowGradients);
  const weights = weigh(logprobs);
  assert(weights.length === logprobs.length, `${weights.length} weights for ${logprobs.length} logprobs`);
  if (rowGradients !== null) return { logprobs, hidden: weighRows(rowGradients, weights) };
  const { norm, head: own, embedding } = gradients.ends!;
  return { logprobs, hidden: await head.backward(ends, rows, weights, { norm, head: own ?? embedding }) };
}
