// The base with a method's additions, as the trainer sees it: log-probabilities of the supervised tokens, and gradients of any weighted
// sum of them.

import type { Architecture } from '../model/architecture.js';
import type { Artifact } from '../model/artifact-reader.js';
import { differentiateBatch, inferBatch } from './batch-passes.js';
import { ArrayPool } from './graphs/array-pool.js';
import { NO_ADDITIONS } from './graphs/block-inputs.js';
import { createHeadRunner } from './graphs/head-runner.js';
import { createModelView, openFrozenBase } from './model-view.js';
import type { FrozenWeights } from './options.js';
import type { Backend, MethodInputs, TrainingMethod, TrainingModel, YieldPoint } from './types.js';

export interface TrainingModelOptions {
  readonly artifact: Artifact;
  /** The artifact's own, or that with another ropeScaling. */
  readonly arch: Architecture;
  readonly method: TrainingMethod;
  readonly backend: Backend;
  readonly frozenWeights: FrozenWeights;
  /** Off keeps what the backward pass reads instead of computing the blocks again: faster, and many times the memory. */
  readonly gradientCheckpointing: boolean;
  readonly yieldPoint: YieldPoint;
}

/**
 * Reads the base's weights when they are first needed: seconds, and their size in memory. One call at a time; the backend stays the
 * caller's. Equal calls give equal values, bit for bit.
 */
export function createTrainingModel(options: TrainingModelOptions): TrainingModel {
  const { artifact, arch, method, backend, yieldPoint } = options;
  const base = openFrozenBase(artifact, options.frozenWeights);
  const pool = new ArrayPool();
  const shared = { base, arch, backend, pool, checkpointing: options.gradientCheckpointing };
  const trained = createModelView({ ...shared, additions: method.additions });
  const reference = createModelView({ ...shared, additions: NO_ADDITIONS });
  const head = createHeadRunner({ backend, arch, yieldPoint, pool });
  const pass = { view: trained, head, tools: { pool, yieldPoint } };
  return {
    parameters: method.parameters,
    async logprobs(batch, { reference: isReference = false } = {}) {
      return isReference
        ? inferBatch({ ...pass, view: reference, inputs: noInputs(arch) }, batch)
        : inferBatch({ ...pass, inputs: await method.inputs() }, batch);
    },
    async accumulate(batch, weigh, seed) {
      const inputs = await method.inputs();
      const { logprobs, gradients } = await differentiateBatch({ ...pass, inputs }, batch, weigh, seed);
      await method.backward(gradients);
      return logprobs;
    },
    dispose() {
      for (const part of [head, trained, reference]) part.dispose();
      return Promise.resolve();
    },
  };
}

function noInputs({ numLayers }: Architecture): MethodInputs {
  return { blocks: Array.from({ length: numLayers }, () => new Map()), virtualTokens: null, ends: null };
}
