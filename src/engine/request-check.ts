// What the engine refuses before a request takes a place in the queue.

import { GatewayError } from '../errors.js';
import type { GenerationRequest } from './types.js';

/** Throws GatewayError invalid_value or context_length_exceeded. */
export function checkRequest(request: GenerationRequest, contextLength: number, vocabSize: number): void {
  const { promptTokens, adapter, sampling } = request;
  if (promptTokens.length === 0)
    throw new GatewayError('invalid_value', 'Expected the prompt to have at least one token, got none.', {
      param: 'prompt',
    });
  const isOutside = (id: number): boolean => !Number.isInteger(id) || id < 0 || id >= vocabSize;
  const outside = promptTokens.find(isOutside);
  if (outside !== undefined)
    throw new GatewayError(
      'invalid_value',
      `Expected token ids to be in [0, ${vocabSize}), got ${outside} in the prompt.`,
      { param: 'prompt' },
    );
  const biased = [...sampling.logitBias.keys()].find(isOutside);
  if (biased !== undefined)
    throw new GatewayError(
      'invalid_value',
      `Expected \`logit_bias\` keys to be token ids in [0, ${vocabSize}), got ${biased}.`,
      { param: 'logit_bias' },
    );
  if (!Number.isSafeInteger(request.priority))
    throw new GatewayError(
      'invalid_value',
      `Expected the tenant's priority to be an integer, got ${request.priority}.`,
      { param: 'priority' },
    );
  const numVirtual = adapter?.kind === 'prefix' ? adapter.numVirtualTokens : 0;
  const total = numVirtual + promptTokens.length + sampling.maxTokens;
  if (total > contextLength)
    throw new GatewayError(
      'context_length_exceeded',
      `This model's context is ${contextLength} tokens. The request needs ${total}: ` +
        `${numVirtual > 0 ? `${numVirtual} virtual, ` : ''}${promptTokens.length} in the prompt, ` +
        `${sampling.maxTokens} to generate. Shorten the prompt, ask for fewer, or start with a larger --context.`,
      { param: 'messages' },
    );
}
