// Perplexity of a text under a model: e to the mean of -log p of every token but the first of each window. Windows do not overlap.
import { greedySampling } from '../server/greedy-sampling.js';
import type { Engine, FairClaim } from '../engine/types.js';
import { assert } from '../errors.js';
import { DEFAULT_TENANT } from '../tenants/types.js';

export interface Perplexity {
  readonly value: number;
  readonly numWindows: number;
  /** Tokens that were predicted. */
  readonly numTokens: number;
}

/** The longest window, in tokens. */
export const MAX_WINDOW = 1_024;

const CLAIM: FairClaim = { tenant: DEFAULT_TENANT, fairnessId: null, priority: 0 };
/** An engine answers with a token at least; it is not looked at. */
const SAMPLING = { ...greedySampling(1), ignoreEos: true };

/** Pieces of at most `window` tokens; a last one of a single token, which predicts nothing, is left out. */
export function windowsOf(tokens: readonly number[], window: number): readonly (readonly number[])[] {
  const windows: (readonly number[])[] = [];
  for (let start = 0; start + 1 < tokens.length; start += window)
    windows.push(tokens.slice(start, start + window));
  return windows;
}

/** The engine's context must hold a window and one token. `onWindow` is called after each. */
export async function perplexity(
  engine: Pick<Engine, 'generate'>,
  windows: readonly (readonly number[])[],
  signal: AbortSignal,
  onWindow: (done: number) => void = () => undefined,
): Promise<Perplexity> {
  let sum = 0;
  let numTokens = 0;
  for (const [index, promptTokens] of windows.entries()) {
    for (const logprob of await promptLogprobs(engine, promptTokens, signal)) {
      sum -= logprob;
      numTokens++;
    }
    onWindow(index + 1);
  }
  return { value: Math.exp(sum / numTokens), numWindows: windows.length, numTokens };
}

async function promptLogprobs(
  engine: Pick<Engine, 'generate'>,
  promptTokens: readonly number[],
  signal: AbortSignal,
): Promise<readonly number[]> {
  const request = { ...CLAIM, promptTokens, adapter: null, sampling: SAMPLING, promptLogprobs: true, signal };
  for await (const event of engine.generate(request)) {
    signal.throwIfAborted();
    if (event.type !== 'prompt') continue;
    assert(event.promptLogprobs !== null, 'log-probabilities of the prompt were asked for');
    return event.promptLogprobs.flatMap((entry) => (entry === null ? [] : [entry.logprob]));
  }
  signal.throwIfAborted();
  throw new Error('the engine gave no prompt event');
}
