// The wire's sampling fields as the engine's SamplingParams.

import type { SamplingParams } from '../../engine/types.js';
import { unexpected } from '../request-body.js';
import type { GenerationFields } from './fields.js';

export interface SamplingLimits {
  readonly maxTokens: number;
  /** Alternatives to report with each token; null reports none at all. */
  readonly logprobs: number | null;
  readonly vocabSize: number;
}

/** The parameters of choice 0; withChoice makes those of the others. Throws invalid_value where fields contradict each other. */
export function toSampling(fields: GenerationFields, limits: SamplingLimits): SamplingParams {
  const minTokens = fields.min_tokens ?? 0;
  if (minTokens > limits.maxTokens) {
    throw unexpected(
      'min_tokens',
      `at most the number of tokens to generate (${limits.maxTokens})`,
      minTokens,
    );
  }
  const onlyMostLikely = fields.top_p === 0;
  return {
    temperature: fields.temperature ?? 1,
    topP: onlyMostLikely ? 1 : (fields.top_p ?? 1),
    topK: onlyMostLikely ? 1 : Math.max(0, fields.top_k ?? 0),
    minP: fields.min_p ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    presencePenalty: fields.presence_penalty ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? 1,
    logitBias: toLogitBias(fields.logit_bias, limits.vocabSize),
    seed: fields.seed ?? null,
    maxTokens: limits.maxTokens,
    minTokens,
    ignoreEos: fields.ignore_eos ?? false,
    stopTokenIds: toStopTokenIds(fields.stop_token_ids, limits.vocabSize),
    logprobs: limits.logprobs,
  };
}

/** Choice i of n draws with seed + i, so that the choices differ and each is reproducible. */
export function withChoice(sampling: SamplingParams, choice: number): SamplingParams {
  return choice === 0 || sampling.seed === null ? sampling : { ...sampling, seed: sampling.seed + choice };
}

export function stopStrings(fields: GenerationFields): readonly string[] {
  return typeof fields.stop === 'string' ? [fields.stop] : (fields.stop ?? []);
}

export function wantsUsage(fields: GenerationFields): boolean {
  if (fields.stream_options !== undefined && fields.stream !== true) {
    throw unexpected('stream_options', 'absent unless `stream` is true', fields.stream_options);
  }
  return fields.stream_options?.include_usage ?? false;
}

function toLogitBias(
  bias: Readonly<Record<string, number>> | undefined,
  vocabSize: number,
): Map<number, number> {
  const entries = Object.entries(bias ?? {}).map(([key, value]): [number, number] => {
    const token = /^\d+$/.test(key) ? Number(key) : NaN;
    if (!(token < vocabSize)) {
      throw unexpected('logit_bias', `keyed by token ids between 0 and ${vocabSize - 1}`, key);
    }
    return [token, value];
  });
  return new Map(entries);
}

function toStopTokenIds(ids: readonly number[] | undefined, vocabSize: number): readonly number[] {
  const index = (ids ?? []).findIndex((token) => token >= vocabSize);
  if (index >= 0) {
    throw unexpected(`stop_token_ids.${index}`, `a token id between 0 and ${vocabSize - 1}`, ids?.[index]);
  }
  return ids ?? [];
}
