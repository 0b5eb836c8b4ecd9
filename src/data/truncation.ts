// Turns cut to a length, by the rule of LLaMA-Factory (infer_seqlen): the shorter of prompt and answer keeps its tokens.

import type { Turn } from './chat-turns.js';

export interface Lengths {
  readonly source: number;
  readonly target: number;
}

/** How much is kept of a prompt and an answer; both together at most `cutoffLength`. */
export function inferLengths(source: number, target: number, cutoffLength: number): Lengths {
  const maxTarget =
    target * 2 < cutoffLength
      ? cutoffLength
      : source * 2 < cutoffLength
        ? cutoffLength - source
        : Math.trunc(cutoffLength * (target / (source + target)));
  const kept = Math.min(maxTarget, target);
  return { source: Math.min(Math.max(cutoffLength - kept, 0), source), target: kept };
}

/** The prompt loses its end, but the header that opens the answer stays: an answer is never learned without it. */
export function cutSource(source: readonly number[], length: number, headerLength: number): number[] {
  if (length >= source.length) return [...source];
  const header = Math.min(headerLength, length);
  return [...source.slice(0, length - header), ...source.slice(source.length - header)];
}

export interface FittedTurns {
  readonly turns: readonly FittedTurn[];
  readonly isTruncated: boolean;
  /** Learned answers that lost their end, or all. */
  readonly numAnswersCut: number;
}

export interface FittedTurn {
  readonly source: readonly number[];
  readonly numRepeated: number;
  readonly target: readonly number[];
  readonly isSupervised: boolean;
}

/** Earlier turns first, or the newest first; turns that nothing is left for are dropped. */
export function fitTurns(
  turns: readonly Turn[],
  cutoffLength: number,
  order: 'oldest_first' | 'newest_first',
): FittedTurns {
  const queue = order === 'oldest_first' ? turns : turns.toReversed();
  const fitted: FittedTurn[] = [];
  let isTruncated = false;
  let numAnswersCut = 0;
  let left = cutoffLength;
  for (const { source, numRepeated, headerLength, target, isSupervised } of queue) {
    const lengths = left > 0 ? inferLengths(source.length, target.length, left) : { source: 0, target: 0 };
    const isCut = lengths.source + lengths.target < source.length + target.length;
    if (isCut) isTruncated = true;
    if (isSupervised && lengths.target < target.length) numAnswersCut++;
    if (left === 0) continue;
    left -= lengths.source + lengths.target;
    fitted.push({
      source: isCut ? cutSource(source, lengths.source, headerLength()) : source,
      numRepeated,
      target: target.slice(0, lengths.target),
      isSupervised,
    });
  }
  return {
    turns: order === 'oldest_first' ? fitted : fitted.toReversed(),
    isTruncated,
    numAnswersCut,
  };
}
