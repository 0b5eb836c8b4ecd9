// The base as it is trained: its own architecture, with the RoPE scaling that a run asks for, and a window that this reaches.

import { GatewayError } from '../errors.js';
import type { Architecture } from '../model/architecture.js';
import { withScaling } from '../model/rope-choice.js';
import type { TrainingOptions } from './options.js';

/** Throws GatewayError invalid_value where examples are longer than the window. */
export function trainingArchitecture(
  arch: Architecture,
  { ropeScaling, cutoffLength }: Pick<TrainingOptions, 'ropeScaling' | 'cutoffLength'>,
): Architecture {
  const scaled = ropeScaling === null ? arch : withScaling(arch, ropeScaling);
  if (cutoffLength <= scaled.contextLength) return scaled;
  throw new GatewayError(
    'invalid_value',
    `Expected cutoff_len to be at most ${scaled.contextLength}, the base's window${ropeScaling === null ? '' : ' with this RoPE scaling'}, got ${cutoffLength}; shorten it, or set rope_scaling with a larger factor.`,
    { param: 'cutoff_len' },
  );
}
