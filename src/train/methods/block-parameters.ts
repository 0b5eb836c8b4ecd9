// Parameters that are a block's inputs as they are: nothing lies between the optimizer's values and the graph's.

import { addInto } from '../parameters.js';
import type { BlockInputs, MethodGradients, MethodInputs, Parameter } from '../types.js';

export interface BlockParameter {
  readonly layer: number;
  /** As in blockInputs(). */
  readonly input: string;
  readonly parameter: Parameter;
}

/** The inputs' arrays are the parameters' own. */
export function blockValues(
  parameters: readonly BlockParameter[],
  numLayers: number,
): readonly BlockInputs[] {
  const blocks = Array.from({ length: numLayers }, () => new Map<string, Float32Array>());
  for (const { layer, input, parameter } of parameters) blocks[layer]!.set(input, parameter.values);
  return blocks;
}

export function addBlockGradients(parameters: readonly BlockParameter[], { blocks }: MethodGradients): void {
  for (const { layer, input, parameter } of parameters)
    addInto(parameter.gradient, blocks[layer]!.get(input)!);
}

/** inputs() and backward() of a method that has such parameters alone. */
export function blockMethod(parameters: readonly BlockParameter[], numLayers: number) {
  const inputs: MethodInputs = {
    blocks: blockValues(parameters, numLayers),
    virtualTokens: null,
    ends: null,
  };
  return {
    parameters: parameters.map(({ parameter }) => parameter),
    inputs: (): Promise<MethodInputs> => Promise.resolve(inputs),
    backward(gradients: MethodGradients): Promise<void> {
      addBlockGradients(parameters, gradients);
      return Promise.resolve();
    },
  };
}
