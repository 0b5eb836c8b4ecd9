// POST /v1/completions: the body, and its prompts as token ids.

import { setImmediate } from 'node:timers/promises';
import { z } from '@hono/zod-openapi';
import { contextLimit, finishSteps } from '../prompt-tokens.js';
import { unexpected } from '../request-body.js';
import type { Services } from '../services.js';
import { boolean, generationFields, integerIn } from './fields.js';

const PROMPT = 'a string, a list of strings, a list of token ids or a list of lists of token ids';
const NOT_EMPTY = 'not empty';
const DEFAULT_MAX_TOKENS = 16;

const ids = z.array(integerIn(0), PROMPT).min(1, NOT_EMPTY);
const prompt = z.union(
  [
    z.string(PROMPT),
    ids,
    z.array(z.string(PROMPT), PROMPT).min(1, NOT_EMPTY),
    z.array(ids, PROMPT).min(1, NOT_EMPTY),
  ],
  PROMPT,
);

export const completionRequest = z.strictObject({
  ...generationFields,
  prompt,
  max_tokens: integerIn(0).optional(),
  echo: boolean().optional(),
  logprobs: integerIn(0, 5).optional(),
  best_of: integerIn(1).optional(),
});

export type CompletionRequest = z.infer<typeof completionRequest>;

export interface Prompt {
  readonly tokens: readonly number[];
  /** What `echo` gives back. */
  readonly text: string;
}

/**
 * One entry for each prompt, with a turn of the event loop between them. Throws invalid_value for an id outside the vocabulary and for
 * a prompt without tokens, context_length_exceeded.
 */
export async function toPrompts(request: CompletionRequest, services: Services): Promise<Prompt[]> {
  const given = request.prompt;
  if (typeof given === 'string') return [await textPrompt(given, 'prompt', services)];
  if (isTokenIds(given)) return [tokenPrompt(given, 'prompt', services)];
  const prompts: Prompt[] = [];
  for (const [index, item] of given.entries()) {
    if (index > 0) await setImmediate();
    const path = `prompt.${index}`;
    prompts.push(
      typeof item === 'string' ? await textPrompt(item, path, services) : tokenPrompt(item, path, services),
    );
  }
  return prompts;
}

export function completionMaxTokens(request: CompletionRequest): number {
  const maxTokens = request.max_tokens ?? DEFAULT_MAX_TOKENS;
  if (maxTokens === 0 && request.echo !== true) {
    throw unexpected('max_tokens', 'at least 1 unless `echo` is true', 0);
  }
  return maxTokens;
}

export function checkBestOf(request: CompletionRequest): void {
  const n = request.n ?? 1;
  if (request.best_of !== undefined && request.best_of !== n) {
    throw unexpected('best_of', `equal to \`n\` (${n})`, request.best_of);
  }
}

export function checkTokenIds(tokens: readonly number[], path: string, vocabSize: number): void {
  const index = tokens.findIndex((token) => token >= vocabSize);
  if (index >= 0) {
    throw unexpected(`${path}.${index}`, `a token id between 0 and ${vocabSize - 1}`, tokens[index]);
  }
}

type PromptList = Exclude<CompletionRequest['prompt'], string>;

function isTokenIds(list: PromptList): list is number[] {
  return typeof list[0] === 'number';
}

async function textPrompt(text: string, path: string, services: Services): Promise<Prompt> {
  const limit = contextLimit(services, path);
  const tokens = await finishSteps(services.tokenizer.encodeSteps(text, { limit }));
  if (tokens.length === 0) throw unexpected(path, 'at least one token long', text);
  return { tokens, text };
}

function tokenPrompt(tokens: readonly number[], path: string, services: Services): Prompt {
  const { tokenizer } = services;
  const limit = contextLimit(services, path);
  if (tokens.length > limit.maxTokens) throw limit.exceeded();
  checkTokenIds(tokens, path, tokenizer.vocabSize);
  return { tokens, text: tokenizer.decode(tokens, { skipSpecial: true }) };
}
