// A training method over given inputs: its parameters are the inputs themselves.
import { NO_ADDITIONS } from '../../src/train/graphs/block-inputs.js';
import { addInto, createParameter } from '../../src/train/parameters.js';
import type { BlockAdditions, MethodInputs, Parameter, TrainingMethod } from '../../src/train/types.js';

/** Parameters are named `{block}.{input}`, `virtualTokens`, `ends.{embedding, norm, head}`. */
export function fixedMethod(additions: Partial<BlockAdditions>, inputs: MethodInputs): TrainingMethod {
  const flat = flatten(inputs);
  const parameters = new Map<string, Parameter>(
    [...flat].map(([name, values]) => [name, createParameter(name, [values.length], values)]),
  );
  return {
    name: 'fixed',
    additions: { ...NO_ADDITIONS, ...additions },
    parameters: [...parameters.values()],
    inputs: () => Promise.resolve(inputs),
    backward(gradients) {
      for (const [name, gradient] of flatten(gradients)) addInto(parameters.get(name)!.gradient, gradient);
      return Promise.resolve();
    },
    files: () => Promise.resolve(new Map()),
  };
}

function flatten({ blocks, virtualTokens, ends }: MethodInputs): Map<string, Float32Array> {
  const flat = new Map<string, Float32Array>();
  blocks.forEach((block, layer) => block.forEach((values, input) => flat.set(`${layer}.${input}`, values)));
  if (virtualTokens !== null) flat.set('virtualTokens', virtualTokens);
  for (const [name, values] of Object.entries(ends ?? {}))
    if (values !== null) flat.set(`ends.${name}`, values);
  return flat;
}
