// A tiny base ready to train.
import { Runtime } from '../../src/runtime/runtime.js';
import type { Architecture } from '../../src/model/architecture.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { type FrozenWeights, loraOfRank, type Precision } from '../../src/train/options.js';
import { createTrainingModel, type TrainingModelOptions } from '../../src/train/training-model.js';
import type { Backend, TrainingMethod, TrainingModel } from '../../src/train/types.js';
import { tinyModel, type TinyModel } from './tiny-model.js';

export interface TrainingBase extends TinyModel {
  readonly arch: Architecture;
  readonly runtime: Runtime;
  readonly backend: Backend;
  /** Disposed with the base. */
  model(method: TrainingMethod, options?: Partial<TrainingModelOptions>): TrainingModel;
  close(): Promise<void>;
}

export async function trainingBase(
  name: string,
  weights: 'f32' | 'q4' | 'q8' = 'f32',
): Promise<TrainingBase> {
  const tiny = await tinyModel(name, weights);
  const runtime = new Runtime();
  const backend = createOnnxBackend(runtime, 1);
  const { architecture: arch } = tiny.artifact.manifest;
  const models: TrainingModel[] = [];
  const defaults = {
    artifact: tiny.artifact,
    arch,
    backend,
    frozenWeights: 'f32' as FrozenWeights,
    precision: 'f32' as Precision,
    gradientCheckpointing: true,
    yieldPoint: () => Promise.resolve(),
  };
  return {
    ...tiny,
    arch,
    runtime,
    backend,
    model(method, options = {}) {
      const model = createTrainingModel({ ...defaults, method, ...options });
      models.push(model);
      return model;
    },
    async close() {
      for (const model of models) await model.dispose();
      backend.dispose();
      tiny.dispose();
    },
  };
}

export const LORA_R8 = loraOfRank(8);
