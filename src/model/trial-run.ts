// One small run of a serving graph without adapters, to compare two builds of it.

import type { Runtime } from '../runtime/runtime.js';
import type { Session } from '../runtime/session.js';
import type { Tensor } from '../runtime/tensor.js';
import type { Architecture } from './architecture.js';
import { ropeTables } from './rope.js';

const NUM_TOKENS = 3;

/** Logits [numTokens, V] of a made-up embedding sequence of `numTokens` (1 to 3) tokens. */
export function trialLogits(
  runtime: Runtime,
  session: Session,
  arch: Architecture,
  numTokens: number,
): Float32Array {
  const { cos, sin } = ropeTables(arch, NUM_TOKENS);
  const embeds = Float32Array.from({ length: numTokens * arch.hiddenSize }, (_, i) => Math.sin(i * i + 1));
  const logits = new Float32Array(numTokens * arch.vocabSize);
  const rows = BigInt64Array.from({ length: numTokens }, (_, i) => BigInt(i));
  const own: [string, Tensor][] = [
    ['cos', runtime.tensor(cos, [NUM_TOKENS, arch.headDim / 2])],
    ['sin', runtime.tensor(sin, [NUM_TOKENS, arch.headDim / 2])],
    ['embeds', runtime.tensor(embeds, [1, numTokens, arch.hiddenSize])],
    ['seqlens_k', runtime.tensor(Int32Array.of(numTokens - 1), [1])],
    ['total_len', runtime.tensor(Int32Array.of(numTokens), [])],
    ['logit_rows', runtime.tensor(rows, [numTokens])],
  ];
  const cache = Array.from({ length: 2 * arch.numLayers }, (_, i) => {
    const size = arch.numKvHeads * NUM_TOKENS * arch.headDim;
    const tensor = runtime.tensor(new Float32Array(size), [1, arch.numKvHeads, NUM_TOKENS, arch.headDim]);
    return { name: `${Math.floor(i / 2)}.${i % 2 === 0 ? 'k' : 'v'}`, tensor };
  });
  const output = runtime.tensor(logits, [numTokens, arch.vocabSize]);
  session.runSync(
    [...own, ...cache.map(({ name, tensor }) => [`past.${name}`, tensor] as const)],
    [['logits', output], ...cache.map(({ name, tensor }) => [`present.${name}`, tensor] as const)],
  );
  for (const tensor of [output, ...own.map(([, value]) => value), ...cache.map((entry) => entry.tensor)])
    tensor.dispose();
  return logits;
}

/** Root mean square of the difference, as a share of that of `expected`; NaN counts as infinite. */
export function relativeDifference(expected: Float32Array, actual: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (expected[i]! - actual[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  const ratio = Math.sqrt(difference / size);
  return Number.isNaN(ratio) ? Infinity : ratio;
}
