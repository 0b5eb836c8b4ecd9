// How one inference request becomes an HTTP answer: whole, or as server-sent events. Both are fed by the same
// listener calls, so a stream's pieces put together are the whole answer. The wire format is an AnswerFormat's business.

import type { Context } from 'hono';
import type { AdapterLease } from '../adapters/types.js';
import type { FairClaim } from '../engine/types.js';
import { GatewayError } from '../errors.js';
import { errorBody, toGatewayError } from './error-response.js';
import { DONE_EVENT, event, EventStream } from './event-stream.js';
import { GenerationJob, type GenerationPlan, type Usage } from './generation-job.js';
import type { Meter } from './metering.js';
import type { PromptScores, SequenceListener } from './sequence.js';
import type { ServerEnv, Services } from './services.js';
import type { Piece, ScoredToken } from './text-stream.js';

/** One choice of a whole answer. */
export interface Choice {
  text: string;
  readonly tokens: ScoredToken[];
  promptScores: PromptScores | null;
  finishReason: 'stop' | 'length';
}

/** A wire format. The functions with Event in their name give whole events, or '' for none. */
export interface AnswerFormat {
  whole(choices: readonly Choice[], usage: Usage): object;
  openingEvent(index: number): string;
  promptEvent(index: number, scores: PromptScores | null): string;
  pieceEvent(index: number, piece: Piece): string;
  finishEvent(index: number, reason: 'stop' | 'length'): string;
  usageEvent(usage: Usage): string;
}

export interface AnswerRequest {
  readonly plan: GenerationPlan;
  readonly lease: AdapterLease | null;
  readonly format: AnswerFormat;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** Nobody reads it; it is what the request counts as. */
export function clientGone(): Response {
  return new Response(null, { status: 499 });
}

export const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
};

/** Takes over the lease and the meter. Throws what may be thrown before the first byte; a stream tells later failures itself. */
export async function answer(
  c: Context<ServerEnv>,
  services: Services,
  request: AnswerRequest,
  claim: FairClaim,
  meter: Meter,
): Promise<Response> {
  const job = await GenerationJob.start(services, request.plan, request.lease, claim, meter);
  const watch = new ClientWatch(job, c.req.raw.signal, services.limits.requestTimeoutMs);
  if (!request.stream) return whole(c, request, job, watch);
  const stream = new EventStream(() => watch.leave());
  void writeEvents(c, services, request, job, watch, stream);
  return c.body(stream.body, 200, STREAM_HEADERS);
}

/** Cancels the job when the client goes or the time is up. */
class ClientWatch {
  readonly #job: GenerationJob;
  readonly #signal: AbortSignal;
  readonly #timer: NodeJS.Timeout | undefined;
  #gone = false;

  constructor(job: GenerationJob, signal: AbortSignal, timeoutMs: number | undefined) {
    this.#job = job;
    this.#signal = signal;
    signal.addEventListener('abort', this.leave, { once: true });
    if (signal.aborted) this.leave();
    if (timeoutMs !== undefined) {
      this.#timer = setTimeout(() => job.cancel(timeout(timeoutMs)), timeoutMs);
    }
  }

  get gone(): boolean {
    return this.#gone;
  }

  readonly leave = (): void => {
    this.#gone = true;
    this.#job.cancel();
  };

  end(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.leave);
  }
}

async function whole(
  c: Context<ServerEnv>,
  { format, plan }: AnswerRequest,
  job: GenerationJob,
  watch: ClientWatch,
): Promise<Response> {
  try {
    const choices = newChoices(plan);
    const usage = await job.run(collector(choices));
    if (usage !== null) return c.json(format.whole(choices, usage));
    if (watch.gone) return clientGone();
    throw shuttingDown();
  } finally {
    watch.end();
  }
}

async function writeEvents(
  c: Context<ServerEnv>,
  services: Services,
  request: AnswerRequest,
  job: GenerationJob,
  watch: ClientWatch,
  stream: EventStream,
): Promise<void> {
  try {
    const usage = await job.run(writer(stream, request));
    if (usage === null && !watch.gone) throw shuttingDown();
    if (usage !== null && request.includeUsage) stream.write(request.format.usageEvent(usage));
    stream.write(DONE_EVENT);
  } catch (error) {
    stream.write(event(errorBody(toGatewayError(error, c.var.requestId, services.logger))));
  } finally {
    watch.end();
    stream.close();
  }
}

function writer(stream: EventStream, { format, plan }: AnswerRequest): SequenceListener {
  for (let index = 0; index < plan.prompts.length * plan.n; index++) stream.write(format.openingEvent(index));
  return {
    prompt: (index, scores) => stream.write(format.promptEvent(index, scores)),
    piece: (index, piece) => stream.write(format.pieceEvent(index, piece)),
    finish: (index, reason) => stream.write(format.finishEvent(index, reason)),
  };
}

function newChoices(plan: GenerationPlan): Choice[] {
  return Array.from({ length: plan.prompts.length * plan.n }, () => ({
    text: '',
    tokens: [],
    promptScores: null,
    finishReason: 'stop',
  }));
}

function collector(choices: readonly Choice[]): SequenceListener {
  return {
    prompt: (index, scores) => {
      choices[index]!.promptScores = scores;
    },
    piece: (index, piece) => {
      const choice = choices[index]!;
      choice.text += piece.text;
      choice.tokens.push(...piece.tokens);
    },
    finish: (index, reason) => {
      choices[index]!.finishReason = reason;
    },
  };
}

function timeout(timeoutMs: number): GatewayError {
  return new GatewayError(
    'unavailable',
    `The answer was not ready within ${timeoutMs} ms; ask for fewer tokens`,
  );
}

function shuttingDown(): GatewayError {
  return new GatewayError('unavailable', 'The server ended this request because it is shutting down');
}
