// What a row's bits depend on, found out by trial runs in slot 0 before anything is served.

import type { ModelRunner } from './model-runner.js';

const TRIAL_TOKENS = [1, 2, 3, 4];

/** Whether tokens of a sequence that run together get the logits that they get one after the other, bit for bit. */
export async function tokensRunTogetherExactly(runner: ModelRunner): Promise<boolean> {
  const apart: Float32Array[] = [];
  for (const [length, token] of TRIAL_TOKENS.entries())
    apart.push((await runner.decode([{ token, length, adapter: null }])).slice());
  const together = await runner.chunk(0, TRIAL_TOKENS, 0, null, 'all');
  return apart.every((row, i) => row.every((value, j) => value === together[i * row.length + j]));
}
