// POST /v1/chat/completions and /v1/completions: body, adapter, prompt tokens, answer.

import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { AdapterLease } from '../../adapters/types.js';
import { plainName } from '../../adapters/visibility.js';
import { GatewayError } from '../../errors.js';
import { acquireAdapter } from '../adapter-selection.js';
import { answer, type AnswerRequest, clientGone } from '../answer.js';
import { claimOf } from '../fair-claim.js';
import { ChatFormat, type AnswerHead } from '../openai/chat-format.js';
import {
  chatLogprobs,
  chatMaxTokens,
  chatRequest,
  type ChatRequest,
  templateVariables,
  toChatMessages,
} from '../openai/chat-request.js';
import { CompletionFormat } from '../openai/completion-format.js';
import {
  checkBestOf,
  completionMaxTokens,
  completionRequest,
  type CompletionRequest,
  toPrompts,
} from '../openai/completion-request.js';
import { type Meter, openMeter } from '../metering.js';
import type { GenerationFields } from '../openai/fields.js';
import { stopStrings, toSampling, wantsUsage } from '../openai/sampling.js';
import { contextLimit, finishSteps } from '../prompt-tokens.js';
import { limitRequests } from '../rate-limits.js';
import { limitBody, readJson } from '../request-body.js';
import type { ServerApp, ServerEnv, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

export function registerGenerationRoutes(app: ServerApp, services: Services): void {
  const limit = limitBody(MAX_JSON_BYTES);
  const rate = limitRequests(services);
  documentRoute(app, 'post', '/v1/chat/completions', 'Answer a conversation', { body: chatRequest });
  app.post('/v1/chat/completions', rate, limit, async (c) => {
    const body = await readJson(c, chatRequest);
    return generate(c, services, body, (lease) => chatAnswer(services, body, lease));
  });
  documentRoute(app, 'post', '/v1/completions', 'Continue a text', { body: completionRequest });
  app.post('/v1/completions', rate, limit, async (c) => {
    const body = await readJson(c, completionRequest);
    return generate(c, services, body, (lease) => completionAnswer(services, body, lease));
  });
}

/** Which version of which adapter answers, where `model` is an alias or a name without a version. */
export const SERVED_MODEL_HEADER = 'x-served-model';

/** A base may be named by a path, in any letters. */
function headerText(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text);
}

/** Holds the lease until the answer takes it over. */
async function generate(
  c: Context<ServerEnv>,
  services: Services,
  fields: GenerationFields,
  prepare: (lease: AdapterLease | null) => Promise<AnswerRequest>,
): Promise<Response> {
  const claim = claimOf(c);
  // Requests of one user, or of one flow, stay with one target of an alias.
  const stickiness = fields.user ?? fields.safety_identifier ?? claim.fairnessId;
  const selected = await acquireAdapter(services, c.var.caller, fields, stickiness);
  const { lease } = selected;
  c.header(SERVED_MODEL_HEADER, headerText(selected.servedModel));
  let request: AnswerRequest;
  let meter: Meter;
  try {
    request = await prepare(lease);
    if (c.req.raw.signal.aborted) {
      lease?.release();
      return clientGone();
    }
    meter = openMeter(c, services, request.plan, usageName(fields, lease, claim.tenant));
  } catch (error) {
    lease?.release();
    throw error;
  }
  return answer(c, services, request, claim, meter);
}

/** The adapter as the usage names it: another tenant's with its owner in front, a combination without its scales, '' for the base. */
function usageName({ adapters }: GenerationFields, lease: AdapterLease | null, tenant: string): string {
  if (lease === null) return '';
  if (adapters !== undefined) return adapters.map(({ name }) => name).join('+');
  const { info } = lease;
  return info.owner === tenant ? plainName(info) : `${info.owner}/${plainName(info)}`;
}

async function chatAnswer(
  services: Services,
  body: ChatRequest,
  lease: AdapterLease | null,
): Promise<AnswerRequest> {
  const { tokenizer } = services;
  const tokens = await finishSteps(
    tokenizer.encodeChatSteps(toChatMessages(body.messages), {
      addGenerationPrompt: true,
      variables: templateVariables(body),
      limit: contextLimit(services, 'messages'),
    }),
  );
  const logprobs = chatLogprobs(body);
  const sampling = toSampling(body, {
    maxTokens: chatMaxTokens(body) ?? remainingTokens(services, tokens.length, lease),
    logprobs,
    vocabSize: tokenizer.vocabSize,
  });
  const includeUsage = wantsUsage(body);
  return {
    plan: {
      prompts: [{ tokens, sampling }],
      n: body.n ?? 1,
      stops: stopStrings(body),
      promptLogprobs: false,
    },
    lease,
    format: new ChatFormat({
      head: head(services, 'chatcmpl', body.model),
      tokenizer,
      logprobs: logprobs !== null,
      includeUsage,
    }),
    stream: body.stream ?? false,
    includeUsage,
  };
}

async function completionAnswer(
  services: Services,
  body: CompletionRequest,
  lease: AdapterLease | null,
): Promise<AnswerRequest> {
  checkBestOf(body);
  const { tokenizer } = services;
  const prompts = await toPrompts(body, services);
  const echo = body.echo ?? false;
  const n = body.n ?? 1;
  const sampling = toSampling(body, {
    maxTokens: completionMaxTokens(body),
    logprobs: body.logprobs ?? null,
    vocabSize: tokenizer.vocabSize,
  });
  const includeUsage = wantsUsage(body);
  const logprobs = body.logprobs !== undefined;
  return {
    plan: {
      prompts: prompts.map(({ tokens }) => ({ tokens, sampling })),
      n,
      stops: stopStrings(body),
      promptLogprobs: echo && logprobs,
    },
    lease,
    format: new CompletionFormat({
      head: head(services, 'cmpl', body.model),
      tokenizer,
      prompts,
      n,
      echo,
      logprobs,
      includeUsage,
    }),
    stream: body.stream ?? false,
    includeUsage,
  };
}

/** What the prompt and the adapter's virtual tokens leave of the context. */
function remainingTokens(services: Services, promptLen: number, lease: AdapterLease | null): number {
  const virtual = lease?.info.numVirtualTokens ?? 0;
  const remaining = services.maxModelLen - promptLen - virtual;
  if (remaining >= 1) return remaining;
  throw new GatewayError(
    'context_length_exceeded',
    `This model's maximum context length is ${services.maxModelLen} tokens, but the messages have ${promptLen + virtual}; shorten them`,
    { param: 'messages' },
  );
}

function head(services: Services, prefix: string, model: string): AnswerHead {
  return {
    id: `${prefix}-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(services.clock() / 1000),
    model,
    system_fingerprint: `fp_${services.base.baseHash.slice(0, 12)}`,
  };
}
