// A light HTTP client for load: one connection a request, times of every piece of a streamed answer, and a closed loop.
// Uses node:http itself: fetch's streams would take a good part of a core that the server needs.
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { z } from 'zod';

const TIMEOUT_MS = 600_000;

/** Times in milliseconds of performance.now(). */
export interface Answer {
  readonly startMs: number;
  readonly endMs: number;
  /** When each piece of text came; empty where the answer was not streamed. */
  readonly pieceMs: readonly number[];
  readonly numTokens: number;
  /** As the answer names it; null where it does not. */
  readonly model: string | null;
  /** Prompt tokens that a cache saved; 0 where the server does not say. */
  readonly numCachedTokens: number;
}

export interface LoadRun {
  readonly wallMs: number;
  readonly answers: readonly Answer[];
  readonly errors: readonly string[];
}

const usage = z.object({
  completion_tokens: z.number(),
  prompt_tokens_details: z.object({ cached_tokens: z.number().nullish() }).nullish(),
});
const event = z.object({
  model: z.string().nullish(),
  usage: usage.nullish(),
  error: z.unknown().optional(),
  choices: z
    .array(
      z.object({ text: z.string().nullish(), delta: z.object({ content: z.string().nullish() }).nullish() }),
    )
    .nullish(),
});
type Event = z.infer<typeof event>;

export class LoadClient {
  readonly #url: URL;
  readonly #signal: AbortSignal;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: string, signal: AbortSignal, headers: Readonly<Record<string, string>> = {}) {
    this.#url = new URL(url);
    this.#signal = signal;
    this.#headers = headers;
  }

  /** Posts a body; streams where it says `stream: true`. Throws Error for any status but 200 and for an error event. */
  async ask(path: string, body: Readonly<Record<string, unknown>>): Promise<Answer> {
    const startMs = performance.now();
    const response = await this.#post(path, JSON.stringify(body));
    if (response.statusCode !== 200)
      throw new Error(`${response.statusCode} ${(await readAll(response)).slice(0, 300)}`);
    const pieceMs: number[] = [];
    let numTokens: number | null = null;
    let numCachedTokens = 0;
    let model: string | null = null;
    const see = (data: string): void => {
      const { usage: counted, error, choices, model: named } = event.parse(JSON.parse(data));
      if (error !== undefined) throw new Error(JSON.stringify(error).slice(0, 300));
      if (counted) {
        numTokens = counted.completion_tokens;
        numCachedTokens = counted.prompt_tokens_details?.cached_tokens ?? 0;
      }
      model = named ?? model;
      if (hasText(choices)) pieceMs.push(performance.now());
    };
    if (body['stream'] === true) await readEvents(response, see);
    else see(await readAll(response));
    return {
      startMs,
      endMs: performance.now(),
      pieceMs: body['stream'] === true ? pieceMs : [],
      numTokens: numTokens ?? pieceMs.length,
      model,
      numCachedTokens,
    };
  }

  #post(path: string, body: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        new URL(path, this.#url),
        {
          method: 'POST',
          agent: false,
          headers: {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
            ...this.#headers,
          },
          signal: this.#signal,
          timeout: TIMEOUT_MS,
        },
        resolve,
      );
      request.on('timeout', () =>
        request.destroy(new Error(`no byte from ${this.#url.href} for ${TIMEOUT_MS / 1000} s`)),
      );
      request.on('error', reject);
      request.end(body);
    });
  }
}

/** `concurrency` workers take the requests in order, each its next one when its last is answered. A failed request is counted, not thrown. */
export async function closedLoop(
  concurrency: number,
  numRequests: number,
  send: (index: number) => Promise<Answer>,
): Promise<LoadRun> {
  const answers: Answer[] = [];
  const errors: string[] = [];
  let next = 0;
  const startMs = performance.now();
  const worker = async (): Promise<void> => {
    while (next < numRequests) {
      try {
        answers.push(await send(next++));
      } catch (error) {
        errors.push(String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return { wallMs: performance.now() - startMs, answers, errors };
}

function hasText(choices: Event['choices']): boolean {
  const first = choices?.[0];
  return Boolean(first?.delta?.content) || Boolean(first?.text);
}

async function readEvents(response: IncomingMessage, see: (data: string) => void): Promise<void> {
  let pending = '';
  response.setEncoding('utf8');
  for await (const text of response) {
    const lines = (pending + String(text)).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice('data:'.length).trim();
      if (data === '[DONE]') return;
      see(data);
    }
  }
  throw new Error('the stream ended without [DONE]');
}

async function readAll(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const piece of response) text += String(piece);
  return text;
}
