// Policy: what the next run of the graph does. Integers only.
//
// Runs alternate: while rows decode, at most one chunk of prefill comes between two of their steps, so no row waits longer.

import type { Sequence } from './sequence.js';

export type Run =
  | { readonly kind: 'decode' }
  /** One sequence: tokens [start, end) of it. */
  | { readonly kind: 'chunk'; readonly sequence: Sequence; readonly start: number; readonly end: number }
  /** Whole short prompts, side by side, from the first sequence in prefill on. */
  | { readonly kind: 'prompts'; readonly sequences: readonly Sequence[] };

export interface SchedulerLimits {
  /** Tokens of one prefill run. */
  readonly prefillChunk: number;
  /** Tokens of one prefill run whose log-probabilities are all wanted. */
  readonly logprobChunk: number;
  /** Short prompts that wait together run side by side. */
  readonly batchPrompts: boolean;
}

/** What to run next; null where nothing is to do. Prompts run in the order in which they got their slots, whatever slots these are. */
export function nextRun(
  numDecoding: number,
  prefilling: readonly Sequence[],
  lastWasPrefill: boolean,
  limits: SchedulerLimits,
): Run | null {
  if (prefilling.length === 0 || (lastWasPrefill && numDecoding > 0))
    return numDecoding > 0 ? { kind: 'decode' } : null;
  const sequence = prefilling.reduce((first, other) => (other.admission < first.admission ? other : first));
  const together = limits.batchPrompts ? shortPrompts(prefilling, limits.prefillChunk) : [];
  if (together.length > 1 && together.includes(sequence)) return { kind: 'prompts', sequences: together };
  const size = sequence.promptLogprobs === null ? limits.prefillChunk : limits.logprobChunk;
  const start = sequence.numComputed;
  return { kind: 'chunk', sequence, start, end: Math.min(sequence.numPrompt, start + size) };
}

/** The leading sequences whose whole prompts fit one run, each padded to the longest. */
function shortPrompts(prefilling: readonly Sequence[], maxTokens: number): readonly Sequence[] {
  let longest = 0;
  let count = 0;
  for (const sequence of prefilling) {
    if (sequence.length > 0 || sequence.promptLogprobs !== null) break;
    longest = Math.max(longest, sequence.numPrompt);
    if (longest * (count + 1) > maxTokens) break;
    count++;
  }
  return prefilling.slice(0, count);
}
