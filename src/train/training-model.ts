// The base with a method's additions, as the trainer sees it: log-probabilities of the supervised tokens, and gradients of any weighted
// sum of them.

import type { Architecture } from '../model/architecture.js';
import type { Artifact } from '../model/artifact-reader.js';
import { differentiateBatch, inferBatch } from './batch-passes.js';
import { releaseGradients } from './gradient-sums.js';
import { ArrayPool } from './graphs/array-pool.js';
import { NO_ADDITIONS } from './graphs/block-inputs.js';
import { createHeadRunner } from './graphs/head-runner.js';
import { createModelView, type ModelView, openFrozenBase, servedBase } from './model-view.js';
import type { FrozenWeights, Precision } from './options.js';
import type { Backend, MethodInputs, TrainingMethod, TrainingModel, YieldPoint } from './types.js';

export interface TrainingModelOptions {
  readonly artifact: Artifact;
  /** The artifact's own, or that with another ropeScaling. */
  readonly arch: Architecture;
  readonly method: TrainingMethod;
  readonly backend: Backend;
  readonly frozenWeights: FrozenWeights;
  /** With `bf16` the backend must know Bfloat16Linear (precision.ts). */
  readonly precision: Precision;
  /** Off keeps all that the backward pass reads, and computes nothing again: many times the memory, and faster for long rows. */
  readonly gradientCheckpointing: boolean;
  readonly yieldPoint: YieldPoint;
}

/**
 * Reads the base's weights when they are first needed: seconds, and their size in memory. One call at a time; the backend stays the
 * caller's. Equal calls give equal values, bit for bit.
 */
export function createTrainingModel(options: TrainingModelOptions): TrainingModel {
  const { artifact, arch, method, backend, precision, yieldPoint } = options;
  const base = openFrozenBase(artifact, options.frozenWeights, precision);
  const pool = new ArrayPool();
  const shared = { base, arch, backend, pool, precision, checkpointing: options.gradientCheckpointing };
  const trained = createModelView({ ...shared, additions: method.additions });
  const reference = createModelView({ ...shared, additions: NO_ADDITIONS });
  const served = options.frozenWeights === 'nf4' ? servedViews(shared, artifact, method) : null;
  const head = createHeadRunner({ backend, arch, precision, yieldPoint, pool });
  const pass = { view: trained, head, tools: { pool, yieldPoint } };
  return {
    parameters: method.parameters,
    async logprobs(batch, { reference: isReference = false, asServed = false } = {}) {
      const views = asServed && served !== null ? served : { trained, reference };
      return isReference
        ? inferBatch({ ...pass, view: views.reference, inputs: noInputs(arch) }, batch)
        : inferBatch({ ...pass, view: views.trained, inputs: await method.inputs() }, batch);
    },
    async accumulate(batch, weigh, seed) {
      const inputs = await method.inputs();
      const { logprobs, gradients } = await differentiateBatch({ ...pass, inputs }, batch, weigh, seed);
      await method.backward(gradients);
      releaseGradients(gradients, pool);
      return logprobs;
    },
    dispose() {
      for (const part of [head, trained, reference, served?.trained, served?.reference]) part?.dispose();
      return Promise.resolve();
    },
  };
}

/** For evaluations of a run whose base is held more coarsely than it serves: f32 and the served codes are the served values already. */
function servedViews(
  shared: Omit<Parameters<typeof createModelView>[0], 'additions'>,
  artifact: Artifact,
  { additions }: TrainingMethod,
): Record<'trained' | 'reference', ModelView> {
  const own = { ...shared, base: servedBase(artifact, shared.base, shared.precision) };
  return {
    trained: createModelView({ ...own, additions }),
    reference: createModelView({ ...own, additions: NO_ADDITIONS }),
  };
}

function noInputs({ numLayers }: Architecture): MethodInputs {
  return { blocks: Array.from({ length: numLayers }, () => new Map()), virtualTokens: null, ends: null };
}
