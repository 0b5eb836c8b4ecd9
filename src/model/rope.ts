// The tables of the rotary embedding: cos and sin of every position's angles, with the checkpoint's scaling applied.
// Formulas as in transformers' modeling_rope_utils.py, but in f64, rounded to f32 once at the end.

import type { Architecture, RopeScaling } from './architecture.js';

export interface RopeTables {
  /** [positions, headDim / 2], row-major. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/**
 * Tables for positions [0, numPositions). Of `dynamic` scaling they hold the frequencies that belong to a sequence of
 * arch.contextLength, for every shorter one too: the tables cannot change while a sequence grows, nor between training and serving.
 */
export function ropeTables(arch: Architecture, numPositions: number): RopeTables {
  const frequencies = ropeFrequencies(arch, arch.contextLength);
  const gain = arch.ropeScaling?.type === 'yarn' ? arch.ropeScaling.attentionFactor : 1;
  const half = frequencies.length;
  const cos = new Float32Array(numPositions * half);
  const sin = new Float32Array(numPositions * half);
  for (let position = 0, at = 0; position < numPositions; position++)
    for (let pair = 0; pair < half; pair++, at++) {
      const angle = position * frequencies[pair]!;
      cos[at] = gain * Math.cos(angle);
      sin[at] = gain * Math.sin(angle);
    }
  return { cos, sin };
}

/** Radians a position, for each of the headDim / 2 pairs; of `dynamic` scaling those of a sequence of `contextLength`. */
export function ropeFrequencies(arch: Architecture, contextLength: number): Float64Array {
  const { headDim, ropeTheta, ropeScaling: scaling } = arch;
  switch (scaling?.type) {
    case undefined:
      return plainFrequencies(headDim, ropeTheta);
    case 'linear':
      return plainFrequencies(headDim, ropeTheta).map((frequency) => frequency / scaling.factor);
    case 'factors':
      return plainFrequencies(headDim, ropeTheta).map(
        (frequency, pair) => frequency / scaling.factors[pair]!,
      );
    case 'dynamic':
      return plainFrequencies(headDim, dynamicTheta(headDim, ropeTheta, scaling, contextLength));
    case 'llama3':
      return plainFrequencies(headDim, ropeTheta).map((frequency) => llama3Frequency(frequency, scaling));
    case 'yarn':
      return yarnFrequencies(headDim, ropeTheta, scaling);
  }
}

function plainFrequencies(headDim: number, theta: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, pair) => theta ** ((-2 * pair) / headDim));
}

/** NTK-aware: a larger base, so that the slowest pair spans the longer context and the fastest keeps its frequency. */
function dynamicTheta(
  headDim: number,
  theta: number,
  scaling: RopeScaling & { readonly type: 'dynamic' },
  contextLength: number,
): number {
  const length = Math.max(contextLength, scaling.originalContextLength);
  const growth = (scaling.factor * length) / scaling.originalContextLength - (scaling.factor - 1);
  return theta * growth ** (headDim / (headDim - 2));
}

/** Long waves are stretched by `factor`, short ones kept, those between blended by how often they fit into the original context. */
function llama3Frequency(frequency: number, scaling: RopeScaling & { readonly type: 'llama3' }): number {
  const { factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling;
  const turns = (originalContextLength * frequency) / (2 * Math.PI);
  if (turns < lowFreqFactor) return frequency / factor;
  if (turns > highFreqFactor) return frequency;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** Pairs that turn more than betaFast times in the original context are kept, below betaSlow stretched, with a ramp between. */
function yarnFrequencies(
  headDim: number,
  theta: number,
  scaling: RopeScaling & { readonly type: 'yarn' },
): Float64Array {
  const { factor, originalContextLength, betaFast, betaSlow } = scaling;
  const pairWithTurns = (turns: number) =>
    (headDim * Math.log(originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(pairWithTurns(betaFast)), 0);
  const high = Math.min(Math.ceil(pairWithTurns(betaSlow)), headDim - 1);
  const width = low === high ? 0.001 : high - low;
  return plainFrequencies(headDim, theta).map((frequency, pair) => {
    const stretched = Math.min(Math.max((pair - low) / width, 0), 1);
    return (frequency / factor) * stretched + frequency * (1 - stretched);
  });
}
