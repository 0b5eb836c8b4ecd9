// Full fine-tuning: every weight of the base is trained, from the values that it is served with. What comes out is a checkpoint of its own,
// in the form that transformers reads and that can be served as a base.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../formats/safetensors.js';
import { PROJECTIONS, projectionPath } from '../../model/architecture.js';
import type { Artifact } from '../../model/artifact-reader.js';
import { configFromArchitecture } from '../../model/config-writer.js';
import { safetensorsName, tensorList } from '../../model/tensor-list.js';
import { blockInputs, NO_ADDITIONS } from '../graphs/block-inputs.js';
import { addInto, createParameter } from '../parameters.js';
import type { MethodInputs, Parameter, TrainingMethod } from '../types.js';
import { addBlockGradients, blockValues, type BlockParameter } from './block-parameters.js';
import { type MethodBase, PYTORCH_METADATA, tensorsOf } from './peft-files.js';

const COPIED_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
];

/**
 * `base.architecture` may differ from the artifact's in its rotation (training beyond the window).
 * Throws GatewayError unsupported_model where the result could not be written.
 */
export function createFullMethod(base: Pick<MethodBase, 'architecture'>, artifact: Artifact): TrainingMethod {
  const { architecture } = base;
  const additions = { ...NO_ADDITIONS, full: true };
  const config = configFromArchitecture(architecture, artifact.manifest);
  const parameters = new Map(
    tensorList(architecture).map(({ name, shape }) => [name, weightParameter(artifact, name, shape)]),
  );
  const blocks = Array.from({ length: architecture.numLayers }, (_, layer) =>
    [...blockInputs(architecture, additions).keys()].map((input): BlockParameter => {
      const parameter = parameters.get(`layers.${layer}.${tensorOfInput(input)}`)!;
      return { layer, input, parameter };
    }),
  ).flat();
  const [embedding, norm] = [parameters.get('embed_tokens')!, parameters.get('norm')!];
  const head = parameters.get('lm_head') ?? null;
  const inputs: MethodInputs = {
    blocks: blockValues(blocks, architecture.numLayers),
    virtualTokens: null,
    ends: { embedding: embedding.values, norm: norm.values, head: head?.values ?? null },
  };
  const trained = [...parameters.values()];
  return {
    name: 'full',
    additions,
    parameters: trained,
    inputs: () => Promise.resolve(inputs),
    backward(gradients) {
      addBlockGradients(blocks, gradients);
      addInto(embedding.gradient, gradients.ends!.embedding);
      addInto(norm.gradient, gradients.ends!.norm);
      if (head !== null) addInto(head.gradient, gradients.ends!.head!);
      return Promise.resolve();
    },
    files: () => Promise.resolve(checkpointFiles(artifact.folder, config, trained)),
  };
}

/** Matrices decay, norms and biases do not, as in transformers. */
function weightParameter(artifact: Artifact, name: string, shape: readonly number[]): Parameter {
  const isMatrix = shape.length === 2;
  const values = isMatrix ? artifact.readMatrixF32(name) : artifact.readVector(name);
  return createParameter(safetensorsName(name), shape, values, { decay: isMatrix });
}

/** `weight.q_proj` -> `self_attn.q_proj`, `bias.q_proj` -> `self_attn.q_proj.bias`, `norm.q_norm` -> `self_attn.q_norm`. */
function tensorOfInput(input: string): string {
  const [kind, name] = input.split('.') as [string, string];
  if (kind === 'norm') return name.endsWith('layernorm') ? name : `self_attn.${name}`;
  const path = projectionPath(PROJECTIONS.find((projection) => projection === name)!);
  return kind === 'bias' ? `${path}.bias` : path;
}

function checkpointFiles(
  folder: string,
  config: object,
  parameters: readonly Parameter[],
): ReadonlyMap<string, Uint8Array> {
  const copied = COPIED_FILES.map((name) => [name, join(folder, name)] as const)
    .filter(([, path]) => existsSync(path))
    .map(([name, path]) => [name, new Uint8Array(readFileSync(path))] as const);
  return new Map([
    ['config.json', new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`)],
    ['model.safetensors', writeSafetensors(tensorsOf(parameters), PYTORCH_METADATA)],
    ...copied,
  ]);
}
