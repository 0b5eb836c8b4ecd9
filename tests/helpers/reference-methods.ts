// The methods of the training references, over their base, with the references' initial values.
import { createLoraMethod } from '../../src/train/methods/lora.js';
import { createPrefixTuningMethod } from '../../src/train/methods/prefix-tuning.js';
import type { TrainingMethod } from '../../src/train/types.js';
import { readTensors, setParameters } from './train-fixtures.js';
import { LORA_R8, type trainingBase } from './training-model.js';

type Base = Awaited<ReturnType<typeof trainingBase>>;

export function referenceLora(base: Base): Promise<TrainingMethod> {
  const method = createLoraMethod(base.artifact.manifest, LORA_R8, 0);
  setParameters(method.parameters, readTensors('lora-init/adapter_model.safetensors'));
  return Promise.resolve(method);
}

export async function referencePrefix(base: Base): Promise<TrainingMethod> {
  const options = { name: 'prefix_tuning', numVirtualTokens: 8, projection: null } as const;
  const method = await createPrefixTuningMethod(base.artifact.manifest, options, 0, base.backend);
  const table = readTensors('prefix-init/adapter_model.safetensors').get('prompt_embeddings')!;
  setParameters(method.parameters, new Map([['prompt_encoder.embedding.weight', table]]));
  return method;
}
