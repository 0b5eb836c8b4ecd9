// POST /tokenize and /detokenize, in vLLM's shape.

import { z } from '@hono/zod-openapi';
import { messageList } from './chat-request.js';
import { boolean, integerIn, modelName } from './fields.js';

export const tokenizeRequest = z.strictObject({
  model: modelName().optional(),
  prompt: z.string('a string').optional(),
  messages: messageList.optional(),
  add_special_tokens: boolean().optional(),
  add_generation_prompt: boolean().optional(),
});

export const detokenizeRequest = z.strictObject({
  model: modelName().optional(),
  tokens: z.array(integerIn(0), 'a list of token ids'),
});
