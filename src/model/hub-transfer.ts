// One HTTP exchange with the Hub or its storage: time limits, redirects that keep the token at home, and one verdict on
// what went wrong (unreachable, interrupted, refused). Files and retries are hub-download's.
import { GatewayError } from '../errors.js';

export interface HubAccess {
  /** Without a trailing slash. */
  readonly endpoint: string;
  readonly token: string | null;
}

export interface TransferLimits {
  /** Until the response's headers are there. */
  readonly connectTimeoutMs: number;
  /** Longest silence within a body. */
  readonly idleTimeoutMs: number;
  /** Pauses before the second, third ... attempt; their number bounds the attempts. */
  readonly retryDelaysMs: readonly number[];
}

export const DEFAULT_LIMITS: TransferLimits = {
  connectTimeoutMs: 5_000,
  idleTimeoutMs: 30_000,
  retryDelaysMs: [500, 1_000, 2_000, 4_000, 8_000],
};

/** The network failed. `unreachable`: nobody answered, so trying at once again is no use. */
export class TransferError extends Error {
  override readonly name = 'TransferError';
  readonly unreachable: boolean;
  readonly retryAfterMs: number | null;

  constructor(
    message: string,
    options: { unreachable: boolean; retryAfterMs?: number | null; cause?: unknown },
  ) {
    super(message, { cause: options.cause });
    this.unreachable = options.unreachable;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

export interface Located {
  readonly response: Response;
  /** Where the answer came from, for messages. */
  readonly host: string;
  /** The Hub's identity of the content: a sha256 for large files, a git hash for small ones. */
  readonly etag: string | null;
  /** The whole file's size where the Hub gives it. */
  readonly linkedSize: number | null;
}

const MAX_REDIRECTS = 6;
const UNREACHABLE = new Set([
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Reads the access from the environment: HF_ENDPOINT, HF_TOKEN. */
export function hubAccessFrom(env: Readonly<Record<string, string | undefined>>): HubAccess {
  return {
    endpoint: (env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, ''),
    token: env['HF_TOKEN'] || null,
  };
}

/**
 * GET that follows redirects itself: the Hub's checksum is on the redirect, and the token must not go to the storage's host.
 * `rangeFor` says from which byte on the file of that etag is wanted (0: all of it).
 * Throws TransferError, or GatewayError for an answer that will not change (401, 403, 404 ...).
 */
export async function locate(
  access: HubAccess,
  limits: TransferLimits,
  path: string,
  rangeFor: (etag: string | null) => number = () => 0,
): Promise<Located> {
  let url = new URL(access.endpoint + path);
  let etag: string | null = null;
  let linkedSize: number | null = null;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await request(access, limits, url, rangeFor(etag));
    etag ??= cleanEtag(response.headers.get('x-linked-etag'));
    linkedSize ??= positiveInteger(response.headers.get('x-linked-size'));
    const location = response.headers.get('location');
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel();
      url = new URL(location, url);
      continue;
    }
    if (!response.ok && response.status !== 416) throw await refusal(access, response, url);
    return { response, host: url.host, etag: etag ?? cleanEtag(response.headers.get('etag')), linkedSize };
  }
  throw new TransferError(`${url.host} redirects without end`, { unreachable: false });
}

/** Names a failure of fetch: by its code, as the text differs between versions. */
export function transferError(error: unknown, host: string): TransferError {
  if (error instanceof TransferError) return error;
  const code = errorCode(error);
  return new TransferError(`${host}: ${code ?? String(error)}`, {
    unreachable: code !== null && UNREACHABLE.has(code),
    cause: error,
  });
}

async function request(access: HubAccess, limits: TransferLimits, url: URL, from: number): Promise<Response> {
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (access.token !== null && url.origin === new URL(access.endpoint).origin)
    headers['authorization'] = `Bearer ${access.token}`;
  if (from > 0) headers['range'] = `bytes=${from}-`;
  const control = new AbortController();
  const seconds = limits.connectTimeoutMs / 1000;
  const timer = setTimeout(
    () =>
      control.abort(
        new TransferError(`${url.host} did not answer within ${seconds} s`, { unreachable: true }),
      ),
    limits.connectTimeoutMs,
  );
  try {
    return await fetch(url, { headers, redirect: 'manual', signal: control.signal });
  } catch (error) {
    throw transferError(error, url.host);
  } finally {
    clearTimeout(timer);
  }
}

async function refusal(access: HubAccess, response: Response, url: URL): Promise<Error> {
  const { status } = response;
  await response.body?.cancel();
  if (status === 408 || status === 429 || status >= 500) {
    const after = Number(response.headers.get('retry-after'));
    const retryAfterMs = after > 0 ? Math.min(after, 60) * 1000 : null;
    return new TransferError(`${url.host} answered ${status}`, { unreachable: false, retryAfterMs });
  }
  const what = decodeURIComponent(url.pathname);
  const reason = response.headers.get('x-error-code');
  const token = access.token === null ? 'HF_TOKEN is not set' : 'the token in HF_TOKEN has no access';
  if (reason === 'GatedRepo' || status === 403)
    return new GatewayError(
      'not_permitted',
      `${what} is gated (${status}): accept the model's licence on its page at ${url.origin} and set HF_TOKEN to your token; ${token}`,
      { param: 'model' },
    );
  if (status === 401)
    return new GatewayError(
      'not_permitted',
      `${what} does not exist or is private (401): check the name, or set HF_TOKEN to a token that may read it; ${token}`,
      { param: 'model' },
    );
  if (status === 404)
    return new GatewayError(
      'model_not_found',
      `${what} does not exist at ${url.origin} (404${reason === null ? '' : `, ${reason}`}): check owner, name, revision and file`,
      { param: 'model' },
    );
  return new GatewayError('download_failed', `${url.origin} answered ${status} for ${what}`, {
    param: 'model',
  });
}

function errorCode(error: unknown): string | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    const errors = at instanceof AggregateError ? (at.errors as unknown[]) : [at];
    for (const inner of errors) {
      const code: unknown = inner instanceof Error && 'code' in inner ? inner.code : null;
      if (typeof code === 'string') return code;
    }
  }
  return null;
}

function cleanEtag(value: string | null): string | null {
  return value === null ? null : value.replace(/^W\//, '').replaceAll('"', '') || null;
}

function positiveInteger(value: string | null): number | null {
  const number = Number(value);
  return value !== null && Number.isSafeInteger(number) && number > 0 ? number : null;
}
