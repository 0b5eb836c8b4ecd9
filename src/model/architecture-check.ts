// What must hold between an Architecture's sizes, wherever they were read from.

import { GatewayError } from '../errors.js';
import type { Architecture } from './architecture.js';

/** Bounds the work that a damaged description can ask for. */
export const MAX_LAYERS = 1024;

/** Throws GatewayError unsupported_model naming the sizes that do not fit together. */
export function checkArchitecture(arch: Architecture, file: string): void {
  const refuse = (problem: string) =>
    new GatewayError('unsupported_model', `${file}: ${problem}`, { param: file });
  const { numHeads, numKvHeads, headDim, ropeScaling } = arch;
  if (arch.numLayers > MAX_LAYERS)
    throw refuse(`${arch.numLayers} layers are more than the ${MAX_LAYERS} that are supported`);
  if (numHeads % numKvHeads !== 0)
    throw refuse(`${numHeads} attention heads cannot share ${numKvHeads} key-value heads evenly`);
  if (headDim % 2 !== 0) throw refuse(`the head size ${headDim} is odd, so it cannot be rotated in pairs`);
  if (ropeScaling?.type === 'llama3' && ropeScaling.highFreqFactor <= ropeScaling.lowFreqFactor)
    throw refuse(
      `rope: Expected high_freq_factor above low_freq_factor, got ${ropeScaling.highFreqFactor} and ${ropeScaling.lowFreqFactor}`,
    );
  if (ropeScaling?.type === 'dynamic' && headDim <= 2)
    throw refuse(`dynamic rope scaling has no meaning for a head size of ${headDim}`);
  if (ropeScaling?.type === 'factors' && ropeScaling.factors.length !== headDim / 2)
    throw refuse(`rope: Expected ${headDim / 2} frequency factors, got ${ropeScaling.factors.length}`);
}
