// All decoder blocks, one after another, for one group of rows: forward, keeping each block's input, and backward.

import type { RowGroup } from './batch-layout.js';
import type { ArrayPool } from './graphs/array-pool.js';
import type { BlockRunner, BlockStep, Kept } from './graphs/block-runner.js';
import type { BlockInputs, YieldPoint } from './types.js';

export interface StackTools {
  readonly pool: ArrayPool;
  readonly yieldPoint: YieldPoint;
}

/** What is fed to the blocks beside the activations. */
export interface StackRun {
  readonly group: RowGroup;
  /** One map a block. */
  readonly inputs: readonly BlockInputs[];
  readonly seed: readonly number[] | null;
  /** As in BlockStep. */
  readonly numHeldTokens: number;
}

/** The way through the blocks: their inputs, kept until the backward pass has used them. */
export interface Trace {
  /** [B*S, H] of the last block. */
  readonly output: Float32Array;
  readonly steps: { readonly step: BlockStep; readonly kept: Kept }[];
}

/** The last block's output [B*S, H]. `x` goes to the pool. */
export async function inferStack(
  runner: BlockRunner,
  run: StackRun,
  x: Float32Array,
  { pool, yieldPoint }: StackTools,
): Promise<Float32Array> {
  let current = x;
  for (const [layer, inputs] of run.inputs.entries()) {
    await yieldPoint();
    const y = await runner.infer({ ...run, layer, inputs, x: current });
    pool.give(current);
    current = y;
  }
  return current;
}

export async function forwardStack(
  runner: BlockRunner,
  run: StackRun,
  x: Float32Array,
  { yieldPoint }: StackTools,
): Promise<Trace> {
  const steps: Trace['steps'] = [];
  let current = x;
  for (const [layer, inputs] of run.inputs.entries()) {
    await yieldPoint();
    const step = { ...run, layer, inputs, x: current };
    const { y, kept } = await runner.forward(step);
    steps.push({ step, kept });
    current = y;
  }
  return { output: current, steps };
}

/**
 * d/dx of the first block [B*S, H]; `collect` gets each block's gradients, the last block's first. The trace's arrays and dy
 * go to the pool; only its output stays. */
export async function backwardStack(
  runner: BlockRunner,
  { steps }: Trace,
  dy: Float32Array,
  collect: (layer: number, gradients: BlockInputs) => void,
  { pool, yieldPoint }: StackTools,
): Promise<Float32Array> {
  let current = dy;
  for (let last = steps.pop(); last !== undefined; last = steps.pop()) {
    await yieldPoint();
    const gradients = await runner.backward(last.step, last.kept, current);
    collect(last.step.layer, gradients);
    for (const array of [current, last.step.x, ...last.kept.values()]) pool.give(array);
    for (const [input, gradient] of gradients) if (input !== 'x') pool.give(gradient);
    current = gradients.get('x')!;
  }
  return current;
}
