// The one error type that callers see, the hint of what a mistyped word meant, and the assertion for our own bugs.
// server/ maps a GatewayError to OpenAI's error body; anything else becomes a 500.

export type ErrorType =
  | 'invalid_request_error'
  | 'not_found_error'
  | 'conflict_error'
  | 'rate_limit_error'
  | 'authentication_error'
  | 'permission_error'
  | 'server_error';

/** Every code the product can answer with, and the HTTP status and type it carries. */
export const ERROR_CODES = {
  invalid_value: [400, 'invalid_request_error'],
  unsupported_parameter: [400, 'invalid_request_error'],
  context_length_exceeded: [400, 'invalid_request_error'],
  invalid_adapter: [400, 'invalid_request_error'],
  adapter_base_mismatch: [400, 'invalid_request_error'],
  unsupported_adapter: [400, 'invalid_request_error'],
  invalid_file: [400, 'invalid_request_error'],
  all_labels_masked: [400, 'invalid_request_error'],
  unsupported_model: [400, 'invalid_request_error'],
  invalid_config: [400, 'invalid_request_error'],
  insufficient_memory: [400, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  not_permitted: [403, 'permission_error'],
  quota_exceeded: [403, 'permission_error'],
  model_not_found: [404, 'not_found_error'],
  not_found: [404, 'not_found_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  adapter_exists: [409, 'conflict_error'],
  tenant_exists: [409, 'conflict_error'],
  payload_too_large: [413, 'invalid_request_error'],
  queue_full: [429, 'rate_limit_error'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  internal_error: [500, 'server_error'],
  engine_failed: [500, 'server_error'],
  download_failed: [502, 'server_error'],
  unavailable: [503, 'server_error'],
} as const satisfies Record<string, readonly [number, ErrorType]>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The caller's fault, or a condition that the caller can act on: always says which value, where, and what to do. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly type: ErrorType;
  /** The request field or file that is at fault, for OpenAI's `param`. */
  readonly param: string | null;
  /** Seconds after which a retry may succeed; becomes the Retry-After header. */
  readonly retryAfterS: number | null;

  constructor(
    code: ErrorCode,
    message: string,
    options: { param?: string; retryAfterS?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    [this.status, this.type] = ERROR_CODES[code];
    this.param = options.param ?? null;
    this.retryAfterS = options.retryAfterS ?? null;
  }
}

/** A broken invariant of ours: never the caller's fault. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** `; did you mean X?` or nothing where no word is near. */
export function nearest(word: string, known: readonly string[]): string {
  const best = known
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .toSorted((a, b) => a.distance - b.distance)[0];
  return best === undefined || best.distance > word.length / 3 ? '' : `; did you mean ${best.candidate}?`;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
