// The base with one set of additions: how batches are laid out for it, its blocks and its ends. A trainer has two: the method's, and the
// reference, without any.

import { assert } from '../errors.js';
import type { TrainingBatch } from '../data/types.js';
import type { Architecture } from '../model/architecture.js';
import type { Artifact } from '../model/artifact-reader.js';
import { layoutBatch, type RowGroup } from './batch-layout.js';
import { type FrozenBlocks, loadFrozenBlocks, streamServedBlocks } from './frozen-weights.js';
import type { ArrayPool } from './graphs/array-pool.js';
import { type BlockRunner, createBlockRunner } from './graphs/block-runner.js';
import { frozenEnds, type ModelEnds, trainedEnds } from './model-ends.js';
import type { FrozenWeights, Precision } from './options.js';
import { createRotations } from './rotations.js';
import type { Backend, BlockAdditions, MethodInputs } from './types.js';

/** The base's own weights, read when first asked for and shared by the views. */
export interface FrozenBase {
  blocks(): FrozenBlocks;
  ends(): ModelEnds;
}

export interface ModelView {
  readonly arch: Architecture;
  readonly additions: BlockAdditions;
  layout(batch: TrainingBatch, inputs: MethodInputs): readonly RowGroup[];
  runner(): BlockRunner;
  ends(inputs: MethodInputs): ModelEnds;
  dispose(): void;
}

/** Of a group, which has at least a row. Larger products gain 3 %, take more memory, and hold up who waits for the processor. */
export const MAX_GROUP_TOKENS = 256;

export function openFrozenBase(artifact: Artifact, weights: FrozenWeights, precision: Precision): FrozenBase {
  let blocks: FrozenBlocks | null = null;
  let ends: ModelEnds | null = null;
  return {
    blocks: () => (blocks ??= loadFrozenBlocks(artifact, weights, precision)),
    ends: () => (ends ??= frozenEnds(artifact)),
  };
}

/** The base as it serves, beside one that is held in another form; its blocks are read each time they are used. */
export function servedBase(artifact: Artifact, base: FrozenBase, precision: Precision): FrozenBase {
  const blocks = streamServedBlocks(artifact, precision);
  return { blocks: () => blocks, ends: () => base.ends() };
}

export function createModelView(options: {
  readonly base: FrozenBase;
  readonly arch: Architecture;
  readonly additions: BlockAdditions;
  readonly backend: Backend;
  readonly precision: Precision;
  readonly checkpointing: boolean;
  readonly pool: ArrayPool;
}): ModelView {
  const { base, arch, additions } = options;
  const rope = createRotations(arch);
  let runner: BlockRunner | null = null;
  return {
    arch,
    additions,
    layout: (batch, { virtualTokens }) =>
      layoutBatch(batch, {
        numVirtualTokens: virtualTokens === null ? 0 : virtualTokens.length / arch.hiddenSize,
        numPrefixTokens: additions.numPrefixTokens,
        slidingWindow: arch.slidingWindow,
        maxTokens: MAX_GROUP_TOKENS,
        headDim: arch.headDim,
        rope,
      }),
    runner() {
      const frozen = additions.full ? null : base.blocks();
      return (runner ??= createBlockRunner({ ...options, frozen }));
    },
    ends({ ends }) {
      assert(additions.full === (ends !== null), 'a method trains the blocks and both ends, or neither');
      return ends === null ? base.ends() : trainedEnds(ends, arch.hiddenSize);
    },
    dispose: () => runner?.dispose(),
  };
}
