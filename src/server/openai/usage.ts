// The usage object of both completion routes.

import type { Usage } from '../generation-job.js';

export function wireUsage(usage: Usage): object {
  return {
    prompt_tokens: usage.numPromptTokens,
    completion_tokens: usage.numCompletionTokens,
    total_tokens: usage.numPromptTokens + usage.numCompletionTokens,
    prompt_tokens_details: { cached_tokens: usage.numCachedTokens },
  };
}
