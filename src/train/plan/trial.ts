// How fast a run goes, by a short trial of it: rows of its own data forward and backward, and one update, over its own base and method. Nothing is written, and what was trained is thrown away.

import { createBatches } from '../../data/batches.js';
import type { TokenizedExample, TokenizedPair, TrainingBatch } from '../../data/types.js';
import { initialAdamWState, updateAdamW } from '../adamw.js';
import { createObjective } from '../objective.js';
import { MAX_GROUP_TOKENS } from '../model-view.js';
import { openTrainingModel, type OpenTrainingOptions } from '../open-model.js';
import { PAD_TO } from './run-size.js';

/** The rows are measured this often at most, and no further once this much time is spent. */
const ROUNDS = 3;
const LONGEST_MS = 10_000;

export type TrialRequest = Omit<OpenTrainingOptions, 'yieldPoint'> & {
  readonly parts: readonly (TokenizedExample | TokenizedPair)[];
};

/** Padded tokens a second, updates among the time. `now` in milliseconds. Takes the memory of the run. */
export async function measureTrial(request: TrialRequest, now: () => number): Promise<number> {
  const { options, parts } = request;
  const objective = createObjective(options);
  const batches = createBatches(parts, { ...options, padTo: PAD_TO });
  const open = await openTrainingModel({ ...request, yieldPoint: () => Promise.resolve() });
  const { model } = open;
  try {
    const whole = batches.microBatch(0, 0);
    const batch = firstRows(whole, options.stage === 'dpo' ? 2 : 1);
    const units = Math.max(1, objective.countUnits(batch));
    const seed = options.seed;
    // Reads the base and compiles the graphs, which a run does once.
    await objective.accumulate(model, batch, units, seed);
    const rowsMs = await fastest(() => objective.accumulate(model, batch, units, seed), now);
    const microMs = (rowsMs * whole.numRows) / batch.numRows;
    const state = initialAdamWState(model.parameters);
    const update = () => Promise.resolve(updateAdamW(model.parameters, state, options, 0));
    const stepMs = options.accumulation * microMs + (await fastest(update, now));
    const tokens = options.accumulation * whole.numRows * whole.numTokens;
    return (1000 * tokens) / stepMs;
  } finally {
    await open.dispose();
  }
}

/** A group that runs through the blocks together: a micro-batch takes as long for each. `least` rows belong together. */
function firstRows(batch: TrainingBatch, least: number): TrainingBatch {
  const numRows = Math.min(
    batch.numRows,
    Math.max(least, least * Math.floor(MAX_GROUP_TOKENS / batch.numTokens / least)),
  );
  const cut = (values: Int32Array): Int32Array => values.subarray(0, numRows * batch.numTokens);
  const { tokens, labels, segments, positions } = batch;
  return {
    numRows,
    numTokens: batch.numTokens,
    tokens: cut(tokens),
    labels: cut(labels),
    segments: cut(segments),
    positions: cut(positions),
  };
}

/** Of a few rounds, so that other work on the machine counts for little. */
async function fastest(work: () => Promise<unknown>, now: () => number): Promise<number> {
  let [best, spent] = [Infinity, 0];
  for (let round = 0; round < ROUNDS && spent < LONGEST_MS; round++) {
    const begun = now();
    await work();
    const took = now() - begun;
    best = Math.min(best, took);
    spent += took;
  }
  return best;
}
