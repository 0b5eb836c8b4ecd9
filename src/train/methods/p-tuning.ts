// P-tuning (Liu et al., arXiv 2103.10385): the virtual tokens' embeddings come out of an encoder, an MLP or an LSTM with an MLP behind it.
// Both are PEFT's PromptEncoder.

import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import { normal } from '../random-numbers.js';
import type { Backend, TrainingMethod } from '../types.js';
import { createEncoder, type Encoder } from './encoder.js';
import { linear, linearParameters, relu } from './linear.js';
import { lstm, lstmParameters } from './lstm.js';
import type { MethodBase } from './peft-files.js';
import { EMBEDDING, virtualTokensMethod } from './virtual-tokens.js';

export type PTuningOptions = MethodOptions & { readonly name: 'p_tuning' };

const HEAD = 'prompt_encoder.mlp_head';
const LSTM = 'prompt_encoder.lstm_head';
/** PEFT's default. */
const NUM_LAYERS = 2;

export async function createPTuningMethod(
  base: MethodBase,
  options: PTuningOptions,
  seed: number,
  backend: Backend,
): Promise<TrainingMethod> {
  const { hiddenSize } = base.architecture;
  const make = options.encoder === 'mlp' ? mlpEncoder : lstmEncoder;
  const encoder = await make(options, hiddenSize, seed, backend);
  return virtualTokensMethod(base, encoder, options.numVirtualTokens, {
    name: 'p_tuning',
    peftType: 'P_TUNING',
    config: {
      encoder_reparameterization_type: options.encoder.toUpperCase(),
      encoder_hidden_size: options.hidden,
      encoder_num_layers: NUM_LAYERS,
      encoder_dropout: 0,
    },
  });
}

function embedding({ numVirtualTokens }: PTuningOptions, size: number, seed: number) {
  return createParameter(EMBEDDING, [numVirtualTokens, size], normal(numVirtualTokens * size, 1, seed, 0));
}

/** Linear, ReLU, Linear, ReLU, Linear. */
function mlpEncoder(options: PTuningOptions, size: number, seed: number, backend: Backend): Promise<Encoder> {
  const { hidden } = options;
  const parameters = [
    embedding(options, size, seed),
    ...linearParameters(`${HEAD}.0`, [hidden, size], seed, 1),
    ...linearParameters(`${HEAD}.2`, [hidden, hidden], seed, 2),
    ...linearParameters(`${HEAD}.4`, [size, hidden], seed, 3),
  ];
  return createEncoder(backend, parameters, (e) => {
    const first = relu(e, linear(e, EMBEDDING, `${HEAD}.0`));
    return linear(e, relu(e, linear(e, first, `${HEAD}.2`)), `${HEAD}.4`);
  });
}

/** A bidirectional LSTM, then Linear, ReLU, Linear. */
function lstmEncoder(
  options: PTuningOptions,
  size: number,
  seed: number,
  backend: Backend,
): Promise<Encoder> {
  const wide = 2 * options.hidden;
  const shape = { name: LSTM, inputSize: size, hidden: options.hidden, numLayers: NUM_LAYERS };
  const parameters = [
    embedding(options, size, seed),
    ...lstmParameters(shape, seed, 1),
    ...linearParameters(`${HEAD}.0`, [wide, wide], seed, 2),
    ...linearParameters(`${HEAD}.2`, [size, wide], seed, 3),
  ];
  return createEncoder(backend, parameters, (e) =>
    linear(e, relu(e, linear(e, lstm(e, EMBEDDING, shape), `${HEAD}.0`)), `${HEAD}.2`),
  );
}
