// How many parameters a base has and how many of them, or beside them, a method trains.
import {
  PROJECTIONS,
  projectionShape,
  type Architecture,
  type Projection,
} from '../../model/architecture.js';
import type { MethodOptions } from '../options.js';

export interface BaseParameters {
  /** The seven matrices of one block. */
  readonly blockMatrices: number;
  /** Norms and biases of one block. */
  readonly blockVectors: number;
  /** The embedding, and the head where it is a matrix of its own. */
  readonly ends: number;
  readonly total: number;
}

export function countBase(arch: Architecture): BaseParameters {
  const blockMatrices = sum(PROJECTIONS.map((projection) => size(arch, projection)));
  const biases = sum(PROJECTIONS.filter((each) => hasBias(arch, each)).map((each) => outputs(arch, each)));
  const norms = 2 * arch.hiddenSize + (arch.qkNorm ? 2 * arch.headDim : 0);
  const blockVectors = biases + norms;
  const ends = arch.vocabSize * arch.hiddenSize * (arch.tiedHead ? 1 : 2);
  return {
    blockMatrices,
    blockVectors,
    ends,
    total: arch.numLayers * (blockMatrices + blockVectors) + ends + arch.hiddenSize,
  };
}

/** Parameters that the optimizer updates. */
export function countTrained(arch: Architecture, method: MethodOptions): number {
  const { numLayers, hiddenSize } = arch;
  switch (method.name) {
    case 'lora': {
      const perBlock = method.targets.map((each) => method.rank * sum(projectionShape(arch, each)));
      return numLayers * sum(perBlock);
    }
    case 'bitfit':
      return numLayers * sum(method.targets.map((each) => outputs(arch, each)));
    case 'bottleneck':
      return numLayers * 2 * (2 * hiddenSize * method.size + method.size + hiddenSize);
    case 'prefix_tuning': {
      const kv = numLayers * 2 * arch.numKvHeads * arch.headDim;
      if (method.projection === null) return method.numVirtualTokens * kv;
      const { hidden } = method.projection;
      return method.numVirtualTokens * hiddenSize + hiddenSize * hidden + hidden + hidden * kv + kv;
    }
    case 'prompt_tuning':
      return method.numVirtualTokens * hiddenSize;
    case 'p_tuning':
      return (
        method.numVirtualTokens * hiddenSize + encoderParameters(method.encoder, hiddenSize, method.hidden)
      );
    case 'full':
      return countBase(arch).total;
  }
}

/** PEFT's PromptEncoder: three linear layers, or two layers of a bidirectional LSTM and two linear layers. */
function encoderParameters(encoder: 'mlp' | 'lstm', input: number, hidden: number): number {
  const linear = (from: number, to: number) => from * to + to;
  if (encoder === 'mlp') return linear(input, hidden) + linear(hidden, hidden) + linear(hidden, input);
  const direction = (from: number) => 4 * hidden * (from + hidden + 2);
  return (
    2 * direction(input) +
    2 * direction(2 * hidden) +
    linear(2 * hidden, 2 * hidden) +
    linear(2 * hidden, input)
  );
}

function hasBias(arch: Architecture, projection: Projection): boolean {
  switch (projection) {
    case 'q_proj':
    case 'k_proj':
    case 'v_proj':
      return arch.qkvBias;
    case 'o_proj':
      return arch.outputBias;
    default:
      return arch.mlpBias;
  }
}

function outputs(arch: Architecture, projection: Projection): number {
  return projectionShape(arch, projection)[0];
}

function size(arch: Architecture, projection: Projection): number {
  const [rows, columns] = projectionShape(arch, projection);
  return rows * columns;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
