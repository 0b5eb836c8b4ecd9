// POST /v1/chat/completions: the body, and its messages as the tokenizer wants them.

import { z } from '@hono/zod-openapi';
import type { ChatMessage } from '../../tokenizer/types.js';
import { GatewayError } from '../../errors.js';
import { unexpected } from '../request-body.js';
import { boolean, generationFields, integerIn } from './fields.js';

const CONTENT = 'a string or a list of {"type": "text", "text": ...}';
const MESSAGES = 'a list of one or more messages';
const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function'] as const;

const textPart = z.strictObject(
  { type: z.literal('text', '"text"'), text: z.string('a string') },
  'an object {"type": "text", "text": ...}',
);

const message = z.strictObject(
  {
    role: z.enum(ROLES, 'one of "system", "developer", "user", "assistant"'),
    content: z.union([z.string(CONTENT), z.array(textPart, CONTENT)], CONTENT),
  },
  'an object {role, content}',
);

export const messageList = z.array(message, MESSAGES).min(1, MESSAGES);

export const chatRequest = z.strictObject({
  ...generationFields,
  messages: messageList,
  max_tokens: integerIn(1).optional(),
  max_completion_tokens: integerIn(1).optional(),
  logprobs: boolean().optional(),
  top_logprobs: integerIn(0, 20).optional(),
  response_format: z.strictObject({ type: z.literal('text', '"text"') }, '{"type": "text"}').optional(),
  /** Variables of the chat template, such as enable_thinking. */
  chat_template_kwargs: z.record(z.string(), z.unknown(), 'an object').optional(),
});

export type ChatRequest = z.infer<typeof chatRequest>;

/** What the template is given by the server; a caller may not replace it. */
const RESERVED_VARIABLES = new Set([
  'messages',
  'tools',
  'documents',
  'add_generation_prompt',
  'bos_token',
  'eos_token',
]);

/** Parts joined, developer as system. Throws unsupported_parameter for the roles of tool calling. */
export function toChatMessages(messages: z.infer<typeof messageList>): ChatMessage[] {
  return messages.map(({ role, content }, index) => {
    if (role === 'tool' || role === 'function') {
      throw new GatewayError(
        'unsupported_parameter',
        `Tool calling is not supported; remove the message of role "${role}"`,
        { param: `messages.${index}.role` },
      );
    }
    return {
      role: role === 'developer' ? 'system' : role,
      content: typeof content === 'string' ? content : content.map((part) => part.text).join(''),
    };
  });
}

export function templateVariables(request: ChatRequest): Readonly<Record<string, unknown>> {
  const variables = request.chat_template_kwargs ?? {};
  const reserved = Object.keys(variables).find((name) => RESERVED_VARIABLES.has(name));
  if (reserved !== undefined) {
    throw unexpected(
      `chat_template_kwargs.${reserved}`,
      'absent, as the server sets it',
      variables[reserved],
    );
  }
  return variables;
}

/** The number of tokens to generate; undefined is what is left of the context. */
export function chatMaxTokens(request: ChatRequest): number | undefined {
  const { max_tokens: old, max_completion_tokens: current } = request;
  if (old !== undefined && current !== undefined && old !== current) {
    throw unexpected('max_tokens', `absent or equal to \`max_completion_tokens\` (${current})`, old);
  }
  return current ?? old;
}

/** Alternatives to report with each token; null reports none at all. */
export function chatLogprobs(request: ChatRequest): number | null {
  if (request.logprobs === true) return request.top_logprobs ?? 0;
  if (request.top_logprobs !== undefined) {
    throw unexpected('top_logprobs', 'absent unless `logprobs` is true', request.top_logprobs);
  }
  return null;
}
