// The method that a run's options name, over its base.

import { GatewayError } from '../../errors.js';
import type { Artifact } from '../../model/artifact-reader.js';
import type { TextTokenizer } from '../../tokenizer/types.js';
import type { MethodOptions } from '../options.js';
import type { Backend, TrainingMethod } from '../types.js';
import { createBitfitMethod } from './bitfit.js';
import { createBottleneckMethod } from './bottleneck.js';
import { createFullMethod } from './full.js';
import { createLoraMethod } from './lora.js';
import { createPTuningMethod } from './p-tuning.js';
import type { MethodBase } from './peft-files.js';
import { createPrefixTuningMethod } from './prefix-tuning.js';
import { createPromptTuningMethod } from './prompt-tuning.js';

export interface MethodContext {
  /** The architecture is that of the training: its rotation may be another than the artifact's. */
  readonly base: MethodBase;
  readonly artifact: Artifact;
  readonly tokenizer: Pick<TextTokenizer, 'encode' | 'chatTemplateHash'>;
  /** Computes encoders, and keeps their graphs until it is disposed. */
  readonly backend: Backend;
}

/** Equal seeds give equal parameters. Throws GatewayError invalid_value, unsupported_model. */
export async function createMethod(
  method: MethodOptions,
  context: MethodContext,
  seed: number,
): Promise<TrainingMethod> {
  const { artifact, tokenizer, backend } = context;
  const base = { ...context.base, chatTemplateHash: tokenizer.chatTemplateHash };
  switch (method.name) {
    case 'lora':
      return createLoraMethod(base, method, seed);
    case 'prefix_tuning':
      return createPrefixTuningMethod(base, method, seed, backend);
    case 'prompt_tuning': {
      const { initText } = method;
      const initial = initText === null ? null : embedText(initText, artifact, tokenizer);
      return createPromptTuningMethod(base, method, seed, initial);
    }
    case 'p_tuning':
      return createPTuningMethod(base, method, seed, backend);
    case 'bitfit':
      return createBitfitMethod(base, method);
    case 'bottleneck':
      return createBottleneckMethod(base, method, seed);
    case 'full':
      return createFullMethod(base, artifact);
  }
}

/** Embeddings [n, H] of the text's tokens. */
function embedText(text: string, artifact: Artifact, tokenizer: MethodContext['tokenizer']): Float32Array {
  const tokens = tokenizer.encode(text);
  if (tokens.length === 0)
    throw new GatewayError(
      'invalid_value',
      `Expected the text that the virtual tokens begin with to have tokens, got ${JSON.stringify(text)}`,
      { param: 'initText' },
    );
  const table = artifact.readEmbeddingTable();
  const embeddings = new Float32Array(tokens.length * table.hiddenSize);
  table.lookup(tokens, embeddings);
  return embeddings;
}
