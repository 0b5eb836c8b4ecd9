// From a row of logits to a token. Pure: the random number is a parameter, the logits' array is scratch that it may change.
// The order of the steps is vLLM's (vllm/v1/sample/sampler.py); each looks at what the one before has left:
// logit_bias, repetition, frequency and presence penalty, temperature, min_p, top_k, top_p, draw.
// transformers has min_p after top_p, which keeps more where both are set.

import type { SamplingParams, TokenLogprob } from './types.js';
import { orderByWeight } from './weight-order.js';

/** How often each token was generated, and which the prompt holds: what penalties look at. */
export interface TokenCounts {
  readonly generated: ReadonlyMap<number, number>;
  readonly prompt: ReadonlySet<number>;
}

/** Changes `logits` [V] as bias, penalties and bans say, in this order: a repeated token's penalty scales its bias, too. */
export function adjustLogits(
  logits: Float32Array,
  params: SamplingParams,
  counts: TokenCounts,
  bannedTokens: readonly number[],
): void {
  const { frequencyPenalty, presencePenalty, repetitionPenalty } = params;
  for (const [token, bias] of params.logitBias) logits[token] = logits[token]! + bias;
  if (repetitionPenalty !== 1) {
    for (const token of new Set([...counts.prompt, ...counts.generated.keys()])) {
      const logit = logits[token]!;
      logits[token] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    }
  }
  if (frequencyPenalty !== 0 || presencePenalty !== 0)
    for (const [token, count] of counts.generated)
      logits[token] = logits[token]! - frequencyPenalty * count - presencePenalty;
  for (const token of bannedTokens) logits[token] = -Infinity;
}

/** The drawn token; `coin` is uniform in [0, 1). */
export function sampleToken(logits: Float32Array, params: SamplingParams, coin: () => number): number {
  const { temperature, topK, topP, minP } = params;
  if (temperature === 0) return argmax(logits);
  const { weights, total } = weigh(logits, temperature, minP);
  if (topK === 0 && topP >= 1) return drawByIndex(weights, coin() * total);
  const candidates = topCandidates(weights, total, topK, topP);
  let target = coin() * mass(candidates, weights);
  for (let i = 0; i < candidates.length; i++) {
    target -= weights[candidates[i]!]!;
    if (target < 0) return candidates[i]!;
  }
  return candidates.at(-1)!;
}

/** Log-probability of `token` under softmax(logits) and those of the `numTop` most likely tokens. */
export function tokenLogprob(logits: Float32Array, token: number, numTop: number): TokenLogprob {
  const normalizer = logSumExp(logits);
  const top = largest(logits, numTop).map((id) => [id, logits[id]! - normalizer] as const);
  return { token, logprob: logits[token]! - normalizer, top };
}

export function argmax(values: Float32Array): number {
  let best = 0;
  let max = values[0]!;
  for (let i = 1; i < values.length; i++) {
    const value = values[i]!;
    if (value > max) {
      max = value;
      best = i;
    }
  }
  return best;
}

export function logSumExp(values: Float32Array): number {
  const max = values[argmax(values)]!;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - max);
  return max + Math.log(sum);
}

/** exp((logit - max) / temperature) [V] and their sum; 0 for those that min_p drops. */
function weigh(
  logits: Float32Array,
  temperature: number,
  minP: number,
): { readonly weights: Float64Array; readonly total: number } {
  const max = logits[argmax(logits)]!;
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp((logits[i]! - max) / temperature);
    if (weight < minP) continue;
    weights[i] = weight;
    total += weight;
  }
  return { weights, total };
}

/** The first token at which the weights' sum passes `target`: of a whole vocabulary, without an object a token. */
function drawByIndex(weights: Float64Array, target: number): number {
  let last = 0;
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token]!;
    if (weight === 0) continue;
    target -= weight;
    if (target < 0) return token;
    last = token;
  }
  return last;
}

/** The tokens that top_k and top_p keep, in an order that depends on the weights alone. */
function topCandidates(weights: Float64Array, total: number, topK: number, topP: number): Int32Array {
  const sorted = sortedCandidates(weights, total, topK, topP);
  const kept = topK > 0 ? sorted.subarray(0, topK) : sorted;
  return topP < 1 ? nucleus(kept, weights, topP * (topK > 0 ? mass(kept, weights) : total)) : kept;
}

/**
 * Tokens sorted by weight: enough of them that what follows cannot tell the difference.
 * The cut starts high and is lowered until the kept mass covers top_p and the count covers top_k.
 */
function sortedCandidates(weights: Float64Array, total: number, topK: number, topP: number): Int32Array {
  for (let cut = 1e-3; ; cut = cut < 1e-12 ? 0 : cut * 1e-3) {
    const kept = candidatesAbove(weights, cut);
    const isEnough = topK > 0 ? kept.length >= topK : mass(kept, weights) >= topP * total;
    if (cut === 0 || isEnough) return orderByWeight(kept, weights);
  }
}

function mass(tokens: Int32Array, weights: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < tokens.length; i++) sum += weights[tokens[i]!]!;
  return sum;
}

function candidatesAbove(weights: Float64Array, cut: number): Int32Array {
  const kept = new Int32Array(weights.length);
  let count = 0;
  for (let token = 0; token < weights.length; token++) if (weights[token]! > cut) kept[count++] = token;
  return kept.subarray(0, count);
}

/** The shortest head of the sorted tokens whose mass reaches `target`. */
function nucleus(sorted: Int32Array, weights: Float64Array, target: number): Int32Array {
  let sum = 0;
  for (let i = 0; i < sorted.length; i++) {
    sum += weights[sorted[i]!]!;
    if (sum >= target) return sorted.subarray(0, i + 1);
  }
  return sorted;
}

/** Indices of the `count` largest values, largest first. */
function largest(values: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  for (let i = 0; i < values.length; i++) {
    if (best.length === count && values[i]! <= values[best.at(-1)!]!) continue;
    let at = best.length;
    while (at > 0 && values[best[at - 1]!]! < values[i]!) at--;
    best.splice(at, 0, i);
    if (best.length > count) best.pop();
  }
  return best;
}
