// POST /tokenize and /detokenize: what the model would see of a text or a conversation, and back.

import type { z } from '@hono/zod-openapi';
import { GatewayError } from '../../errors.js';
import type { TokenLimit } from '../../tokenizer/types.js';
import { checkModel } from '../adapter-selection.js';
import { toChatMessages } from '../openai/chat-request.js';
import { checkTokenIds } from '../openai/completion-request.js';
import { detokenizeRequest, tokenizeRequest } from '../openai/token-request.js';
import { finishSteps } from '../prompt-tokens.js';
import { limitBody, readJson, unexpected } from '../request-body.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

/** Texts that are longer than the context are counted too, but not without end. */
const MAX_COUNTED_TOKENS = 32_768;

export function registerTokenRoutes(app: ServerApp, services: Services): void {
  const { tokenizer } = services;
  const limit = limitBody(MAX_JSON_BYTES);
  documentRoute(app, 'post', '/tokenize', 'Text or messages to token ids', { body: tokenizeRequest });
  app.post('/tokenize', limit, async (c) => {
    const body = await readJson(c, tokenizeRequest);
    if (body.model !== undefined) await checkModel(services, c.var.caller, body.model);
    const tokens = await encode(services, body);
    return c.json({ count: tokens.length, max_model_len: services.maxModelLen, tokens });
  });
  documentRoute(app, 'post', '/detokenize', 'Token ids to text', { body: detokenizeRequest });
  app.post('/detokenize', limit, async (c) => {
    const body = await readJson(c, detokenizeRequest);
    if (body.model !== undefined) await checkModel(services, c.var.caller, body.model);
    const { maxTokens, exceeded } = countLimit(services, 'tokens');
    if (body.tokens.length > maxTokens) throw exceeded();
    checkTokenIds(body.tokens, 'tokens', tokenizer.vocabSize);
    return c.json({ prompt: tokenizer.decode(body.tokens, { skipSpecial: false }) });
  });
}

async function encode(services: Services, body: z.infer<typeof tokenizeRequest>): Promise<number[]> {
  const { tokenizer } = services;
  const { messages, prompt, add_special_tokens: addBos, add_generation_prompt: addGenerationPrompt } = body;
  if (messages === undefined) {
    if (prompt === undefined) throw unexpected('prompt', 'a string where `messages` is absent', prompt);
    if (addGenerationPrompt !== undefined) {
      throw unexpected('add_generation_prompt', 'absent unless `messages` is given', addGenerationPrompt);
    }
    const limit = countLimit(services, 'prompt');
    return finishSteps(tokenizer.encodeSteps(prompt, { addBos: addBos ?? true, limit }));
  }
  if (prompt !== undefined) throw unexpected('prompt', 'absent where `messages` is given', prompt);
  if (addBos === true) {
    throw unexpected('add_special_tokens', 'false for `messages`, whose template has them', addBos);
  }
  return finishSteps(
    tokenizer.encodeChatSteps(toChatMessages(messages), {
      addGenerationPrompt: addGenerationPrompt ?? true,
      limit: countLimit(services, 'messages'),
    }),
  );
}

function countLimit({ maxModelLen }: Services, param: string): TokenLimit {
  const maxTokens = Math.max(maxModelLen, MAX_COUNTED_TOKENS);
  return {
    maxTokens,
    exceeded: () =>
      new GatewayError(
        'context_length_exceeded',
        `Expected \`${param}\` to have at most ${maxTokens} tokens, got more; send it in parts`,
        { param },
      ),
  };
}
