// Requests one after another or all at once, and how their answers are compared.
import assert from 'node:assert/strict';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import type { GenerationRequest } from '../../src/engine/types.js';
import { collect, type Result } from './tiny-model.js';

/** Token and log-probabilities may differ by rounding only. */
export const TOLERANCE = 1e-4;

export async function alone(
  { engine }: OpenEngine,
  requests: readonly GenerationRequest[],
): Promise<Result[]> {
  const results: Result[] = [];
  for (const request of requests) results.push(await collect(engine.generate(request)));
  return results;
}

export function together({ engine }: OpenEngine, requests: readonly GenerationRequest[]): Promise<Result[]> {
  return Promise.all(requests.map((request) => collect(engine.generate(request))));
}

export function assertSame(got: Result, expected: Result, label: string, tolerance = TOLERANCE): void {
  assert.deepEqual(got.tokens, expected.tokens, label);
  assert.equal(got.logprobs.length, expected.logprobs.length, label);
  const worst = Math.max(0, ...got.logprobs.map((value, i) => Math.abs(value - expected.logprobs[i]!)));
  assert(worst <= tolerance, `${label}: log-probabilities differ by ${worst}`);
  assert.equal(got.finish, expected.finish, label);
}

/** Resolves when `condition` holds, looking once a turn of the event loop; fails after a great many turns. */
export async function until(condition: () => boolean, label: string): Promise<void> {
  for (let turns = 0; turns < 1_000_000; turns++) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail(`never: ${label}`);
}
