// A running server over HTTP, as the client commands need it: JSON in, checked values out, the server's own words on refusal.
import { z } from 'zod';
import { GatewayError } from '../errors.js';
import { eventData } from './event-data.js';

const errorBody = z.object({ error: z.object({ message: z.string() }) });
const adapter = z.object({
  name: z.string(),
  version: z.number(),
  peft_type: z.string(),
  served_as: z.string(),
  rank: z.number().nullable(),
  size_bytes: z.number(),
  created_at: z.number(),
});
const adapterList = z.object({ data: z.array(adapter) });
const modelList = z.object({ data: z.array(z.object({ id: z.string() })) });
const chunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
});

export type AdapterRow = z.infer<typeof adapter>;
const mergedRow = z.object({
  form: z.string(),
  verdict: z.string(),
  /** No number where the logits were none. */
  mean_kl: z
    .number()
    .nullable()
    .transform((value) => value ?? Number.NaN),
  top1_agreement: z
    .number()
    .nullable()
    .transform((value) => value ?? Number.NaN),
  decode_gain: z.record(z.string(), z.number()),
  prefill_gain: z.number().nullable(),
  size_bytes: z.number(),
});
export type MergedRow = z.infer<typeof mergedRow>;
const shownAdapter = adapter.extend({
  merged: z.object({ form: z.string().nullable(), tried: z.array(mergedRow) }).optional(),
});
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** The server said no; the message is the server's. */
export class RefusedRequest extends Error {
  override readonly name = 'RefusedRequest';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** All methods throw RefusedRequest, and GatewayError unavailable when nobody answers. */
export class ServerClient {
  readonly #url: string;
  readonly #apiKey: string | null;

  constructor(url: string, apiKey: string | null = null) {
    this.#url = url.replace(/\/+$/, '');
    this.#apiKey = apiKey;
  }

  async listAdapters(): Promise<readonly AdapterRow[]> {
    return adapterList.parse(await this.#json('/v1/adapters')).data;
  }

  async showAdapter(name: string): Promise<z.infer<typeof shownAdapter>> {
    return shownAdapter.parse(await this.#json(`/v1/adapters/${encodeURIComponent(name)}`));
  }

  /** Files by base name. */
  async addAdapter(name: string, files: ReadonlyMap<string, Blob>): Promise<AdapterRow> {
    const body = new FormData();
    body.append('name', name);
    for (const [fileName, content] of files) body.append('file', content, fileName);
    return adapter.parse(await this.#json('/v1/adapters', { method: 'POST', body }));
  }

  async removeAdapter(name: string): Promise<void> {
    await this.#json(`/v1/adapters/${encodeURIComponent(name)}`, { method: 'DELETE' });
  }

  /** The base first, then the adapters. */
  async listModels(): Promise<readonly string[]> {
    return modelList.parse(await this.#json('/v1/models')).data.map(({ id }) => id);
  }

  /** The answer's text, piece by piece. Aborting the signal ends it without an error. */
  async *chat(
    model: string,
    messages: readonly ChatMessage[],
    signal: AbortSignal,
  ): AsyncGenerator<string, void, undefined> {
    try {
      const response = await this.#request('/v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model, messages, stream: true }),
        signal,
      });
      for await (const data of eventData(response)) {
        if (data === '[DONE]') return;
        yield this.#piece(data);
      }
      throw new GatewayError('unavailable', `${this.#url} broke the answer off`);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #piece(data: string): string {
    const body: unknown = JSON.parse(data);
    const failure = errorBody.safeParse(body);
    if (failure.success) throw new RefusedRequest(500, failure.data.error.message);
    return chunk.parse(body).choices[0]?.delta.content ?? '';
  }

  async #json(path: string, init: RequestInit = {}): Promise<unknown> {
    return (await this.#request(path, init)).json();
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#apiKey !== null)
      for (const [name, value] of Object.entries(bearer(this.#apiKey))) headers.set(name, value);
    let response: Response;
    try {
      response = await fetch(this.#url + path, { ...init, headers });
    } catch (error) {
      throw new GatewayError(
        'unavailable',
        `No server answers at ${this.#url}: start one with \`graft serve\`, or give its address with --url`,
        { param: 'url', cause: error },
      );
    }
    if (response.ok) return response;
    const text = await response.text();
    throw new RefusedRequest(
      response.status,
      refusalMessage(text) ?? `${response.status} ${text.slice(0, 300)}`,
    );
  }
}

/** The header that a key is sent in. */
export function bearer(apiKey: string): Readonly<Record<string, string>> {
  return { authorization: `Bearer ${apiKey}` };
}

function refusalMessage(text: string): string | null {
  try {
    const parsed = errorBody.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.error.message : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
