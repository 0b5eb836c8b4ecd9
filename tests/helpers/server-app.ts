// The HTTP application over fakes, with a clock that a test moves, and short ways to ask it.

import { Registry } from 'prom-client';
import { createApp, type ServerDependencies } from '../../src/server/index.js';
import type { TenantTraining, TrainingService } from '../../src/train/jobs/types.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { FakeAdapters } from './fake-adapters.js';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.js';
import { noTenants } from './tenants.js';

/** 2023-11-14T22:13:20Z */
export const NOW_MS = 1_700_000_000_000;

const refuse = () => Promise.reject(new Error('no training was expected'));

const noTenantTraining: TenantTraining = {
  files: { add: refuse, get: refuse, list: refuse, read: refuse, remove: refuse },
  create: refuse,
  get: refuse,
  list: refuse,
  cancel: refuse,
  pause: refuse,
  resume: refuse,
  events: refuse,
  follow: () => {
    throw new Error('no training was expected');
  },
  checkpoints: refuse,
};

/** A training service without jobs. */
export const noTraining: TrainingService = {
  of: () => noTenantTraining,
  holdings: async () => ({ numJobs: 0, sizeBytes: 0 }),
  countByStatus: async () => ({
    queued: 0,
    validating: 0,
    running: 0,
    paused: 0,
    succeeded: 0,
    failed: 0,
    cancelled: 0,
  }),
  figures: () => null,
  close: () => Promise.resolve(),
};

export interface TestAppOptions extends FakeEngineOptions {
  readonly adapterNames?: readonly string[];
  readonly bos?: boolean;
  readonly deps?: Partial<ServerDependencies>;
}

export function testApp({
  adapterNames = [],
  bos = false,
  deps = {},
  ...engineOptions
}: TestAppOptions = {}) {
  const engine = new FakeEngine(engineOptions);
  const adapters = new FakeAdapters(adapterNames);
  const tokenizer = new ByteTokenizer({ bos });
  const logged: string[] = [];
  const log = (message: string) => void logged.push(message);
  const time = { nowMs: NOW_MS };
  const app = createApp({
    engine,
    tokenizer,
    adapters,
    training: noTraining,
    tenants: noTenants,
    base: {
      name: 'tiny',
      baseHash: '0123456789abcdef',
      createdAt: 1_690_000_000,
      source: 'hub/tiny',
      weights: 'q4',
      contextLength: 8192,
      ropeScaling: null,
    },
    readArchive: () => Promise.reject(new Error('no archive was expected')),
    readAdapterFolder: () => Promise.reject(new Error('no folder was expected')),
    metricsRegistry: new Registry(),
    clock: () => time.nowMs,
    random: () => 0,
    limits: { maxUploadBytes: 100_000 },
    runtimeLora: null,
    isReady: () => true,
    logger: { info: log, warn: log, error: log },
    ...deps,
  });
  const post = async (path: string, body: unknown, init: RequestInit = {}) =>
    app.request(path, {
      method: 'POST',
      body: typeof body === 'string' || body instanceof FormData ? body : JSON.stringify(body),
      ...init,
    });
  return { app, engine, adapters, tokenizer, logged, time, post };
}

/** What tests read of an answer or a chunk; each route gives some of it. */
export interface WireAnswer {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
  readonly choices: readonly WireChoice[];
  readonly usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
  readonly error?: WireError;
}

export interface WireChoice {
  readonly index: number;
  readonly text?: string;
  readonly message?: { role: string; content: string };
  readonly delta?: { role?: string; content?: string };
  readonly logprobs: {
    readonly content?: readonly {
      token: string;
      logprob: number;
      bytes: number[];
      top_logprobs: unknown[];
    }[];
    readonly tokens?: readonly string[];
    readonly token_logprobs?: readonly (number | null)[];
    readonly top_logprobs?: readonly (Record<string, number> | null)[];
    readonly text_offset?: readonly number[];
  } | null;
  readonly finish_reason: string | null;
}

export interface WireError {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
}

export async function jsonOf<T = WireAnswer>(response: Response): Promise<T> {
  const value: T = JSON.parse(await response.text());
  return value;
}

export async function errorOf(response: Response): Promise<WireError> {
  return (await jsonOf<{ error: WireError }>(response)).error;
}

/** The chunks of a stream that ended well. */
export function chunksOf(body: string): WireAnswer[] {
  const events = rawEventsOf(body);
  if (events.pop() !== '[DONE]') throw new Error('expected [DONE] at the end');
  return events.map((data): WireAnswer => JSON.parse(data));
}

/** The data of each event of a stream. */
export function rawEventsOf(body: string): string[] {
  const events = body.split('\n\n');
  if (events.pop() !== '') throw new Error('expected an empty line at the end');
  return events.map((event) => {
    if (!event.startsWith('data: ') || event.includes('\n')) throw new Error(`not one data line: ${event}`);
    return event.slice('data: '.length);
  });
}
