// The model of a run as it is trained: the converted base, the method over it, and the backend that computes both.

import type { Artifact } from '../model/artifact-reader.js';
import { Runtime } from '../runtime/runtime.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import { createMethod } from './methods/create-method.js';
import { checkNf4Kernel } from './nf4-node.js';
import { createOnnxBackend } from './onnx-backend.js';
import type { TrainingOptions } from './options.js';
import { precisionHere, precisionKernels } from './precision.js';
import { trainingArchitecture } from './training-architecture.js';
import { createTrainingModel } from './training-model.js';
import type { Backend, TrainingMethod, TrainingModel, YieldPoint } from './types.js';

export interface OpenTrainingModel {
  readonly model: TrainingModel;
  readonly method: TrainingMethod;
  dispose(): Promise<void>;
}

export interface OpenTrainingOptions {
  readonly artifact: Artifact;
  readonly tokenizer: TextTokenizer;
  readonly options: TrainingOptions;
  /** That may compute. */
  readonly threads: number;
  readonly yieldPoint: YieldPoint;
}

export async function openTrainingModel(wanted: OpenTrainingOptions): Promise<OpenTrainingModel> {
  const { artifact, tokenizer, options, threads, yieldPoint } = wanted;
  const arch = trainingArchitecture(artifact.manifest.architecture, options);
  const backend = await openBackend(options, threads);
  try {
    if (options.frozenWeights === 'nf4') await checkNf4Kernel(backend);
    const base = { ...artifact.manifest, architecture: arch };
    const method = await createMethod(options.method, { base, artifact, tokenizer, backend }, options.seed);
    const { frozenWeights, gradientCheckpointing } = options;
    const model = createTrainingModel({
      artifact,
      arch,
      method,
      backend,
      frozenWeights,
      precision: precisionHere(options),
      gradientCheckpointing,
      yieldPoint,
    });
    const dispose = async (): Promise<void> => {
      await model.dispose();
      backend.dispose();
    };
    return { model, method, dispose };
  } catch (error) {
    backend.dispose();
    throw error;
  }
}

async function openBackend(options: TrainingOptions, threads: number): Promise<Backend> {
  if (options.backend === 'onnx') return createOnnxBackend(new Runtime(precisionKernels(options)), threads);
  const { createTfjsBackend } = await import('./tfjs-backend.js');
  return createTfjsBackend();
}
