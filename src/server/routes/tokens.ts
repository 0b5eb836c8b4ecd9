// POST /tokenize and /detokenize: what the model would see of a text or a conversation, and back.

import type { z } from '@hono/zod-openapi';
import { checkModel } from '../adapter-selection.js';
import { toChatMessages } from '../openai/chat-request.js';
import { checkTokenIds } from '../openai/completion-request.js';
import { detokenizeRequest, tokenizeRequest } from '../openai/token-request.js';
import { limitBody, readJson, unexpected } from '../request-body.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

export function registerTokenRoutes(app: ServerApp, services: Services): void {
  const { tokenizer } = services;
  const limit = limitBody(MAX_JSON_BYTES);
  documentRoute(app, 'post', '/tokenize', 'Text or messages to token ids', { body: tokenizeRequest });
  app.post('/tokenize', limit, async (c) => {
    const body = await readJson(c, tokenizeRequest);
    if (body.model !== undefined) await checkModel(services, body.model);
    const tokens = encode(services, body);
    return c.json({ count: tokens.length, max_model_len: services.maxModelLen, tokens });
  });
  documentRoute(app, 'post', '/detokenize', 'Token ids to text', { body: detokenizeRequest });
  app.post('/detokenize', limit, async (c) => {
    const body = await readJson(c, detokenizeRequest);
    if (body.model !== undefined) await checkModel(services, body.model);
    checkTokenIds(body.tokens, 'tokens', tokenizer.vocabSize);
    return c.json({ prompt: tokenizer.decode(body.tokens, { skipSpecial: false }) });
  });
}

function encode({ tokenizer }: Services, body: z.infer<typeof tokenizeRequest>): number[] {
  const { messages, prompt, add_special_tokens: addBos, add_generation_prompt: addGenerationPrompt } = body;
  if (messages === undefined) {
    if (prompt === undefined) throw unexpected('prompt', 'a string where `messages` is absent', prompt);
    if (addGenerationPrompt !== undefined) {
      throw unexpected('add_generation_prompt', 'absent unless `messages` is given', addGenerationPrompt);
    }
    return tokenizer.encode(prompt, { addBos: addBos ?? true });
  }
  if (prompt !== undefined) throw unexpected('prompt', 'absent where `messages` is given', prompt);
  if (addBos === true) {
    throw unexpected('add_special_tokens', 'false for `messages`, whose template has them', addBos);
  }
  return tokenizer.encodeChat(toChatMessages(messages), { addGenerationPrompt: addGenerationPrompt ?? true });
}
