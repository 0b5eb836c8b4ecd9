// A RoPE scaling that is chosen for a base, in place of the checkpoint's own, to reach beyond its window: written TYPE:FACTOR.

import type { Architecture, RopeScaling } from './architecture.js';
import type { Artifact } from './artifact-reader.js';
import { yarnMscale } from './rope-config.js';

export const ROPE_TYPES = ['linear', 'dynamic', 'yarn', 'llama3'] as const;

export interface RopeChoice {
  readonly type: (typeof ROPE_TYPES)[number];
  /** Above 1. */
  readonly factor: number;
}

/** The tail of "Expected ... to be ...". */
export const ROPE_CHOICE = `TYPE:FACTOR with one of ${ROPE_TYPES.join(', ')} and a number above 1, as in yarn:4`;

/** Null where it is not ROPE_CHOICE. */
export function parseRopeChoice(text: string): RopeChoice | null {
  const [, name, digits] = /^(\w+):(\d+(?:\.\d+)?)$/.exec(text) ?? [];
  const type = ROPE_TYPES.find((each) => each === name);
  const factor = Number(digits);
  return type !== undefined && Number.isFinite(factor) && factor > 1 ? { type, factor } : null;
}

/** Tokens that the base was trained on before any scaling. */
export function originalWindow({
  contextLength,
  ropeScaling: own,
}: Pick<Architecture, 'contextLength' | 'ropeScaling'>): number {
  return own !== null && 'originalContextLength' in own ? own.originalContextLength : contextLength;
}

/** The scaling as transformers' defaults complete it. */
export function chosenScaling(
  arch: Pick<Architecture, 'contextLength' | 'ropeScaling'>,
  { type, factor }: RopeChoice,
): RopeScaling {
  const originalContextLength = originalWindow(arch);
  switch (type) {
    case 'linear':
      return { type, factor };
    case 'dynamic':
      return { type, factor, originalContextLength };
    case 'llama3':
      return { type, factor, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength };
    case 'yarn':
      return {
        type,
        factor,
        originalContextLength,
        betaFast: 32,
        betaSlow: 1,
        attentionFactor: yarnMscale(factor, 1),
      };
  }
}

/** The base with this scaling in place of its own; its window is then as long as the scaling reaches. */
export function withScaling(arch: Architecture, ropeScaling: RopeScaling): Architecture {
  const contextLength =
    'factor' in ropeScaling ? Math.floor(originalWindow(arch) * ropeScaling.factor) : arch.contextLength;
  return { ...arch, ropeScaling, contextLength };
}

/** The base with the scaling of a ROPE_CHOICE; with its own where none is chosen. The tables of angles are inputs of its graph. */
export function withRopeScaling(artifact: Artifact, chosen: string | null): Artifact {
  const choice = chosen === null ? null : parseRopeChoice(chosen);
  if (choice === null) return artifact;
  const { manifest } = artifact;
  const architecture = withScaling(manifest.architecture, chosenScaling(manifest.architecture, choice));
  return { ...artifact, manifest: { ...manifest, architecture } };
}
