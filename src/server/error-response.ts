// The one mapping from a thrown thing to OpenAI's error body. Everything that is not a GatewayError is our fault:
// the caller gets a 500 without details, the log gets the error.

import { GatewayError } from '../errors.js';
import type { Logger } from './dependencies.js';

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

/** The longest wait that OpenAI's clients obey. */
const MAX_RETRY_AFTER_S = 60;

/** A GatewayError as it is; anything else logged under the request's id and made an internal_error. */
export function toGatewayError(error: unknown, requestId: string, logger: Logger): GatewayError {
  if (error instanceof GatewayError) {
    if (error.status >= 500) logger.error(error.message, { requestId, code: error.code, error });
    return error;
  }
  logger.error('a request failed', { requestId, error });
  return new GatewayError(
    'internal_error',
    `The server failed to answer this request; its log tells more under request id ${requestId}`,
    { cause: error },
  );
}

export function errorBody(error: GatewayError): ErrorBody {
  return { error: { message: error.message, type: error.type, param: error.param, code: error.code } };
}

/** Retry-After in whole seconds where a retry may help, x-should-retry: false where OpenAI's clients would retry in vain. */
export function errorHeaders(error: GatewayError): Record<string, string> {
  if (error.status === 429 || error.status === 503) {
    const seconds = Math.min(MAX_RETRY_AFTER_S, Math.max(1, Math.ceil(error.retryAfterS ?? 1)));
    return { 'retry-after': String(seconds) };
  }
  if (error.status === 401) return { 'www-authenticate': 'Bearer' };
  return error.status === 409 ? { 'x-should-retry': 'false' } : {};
}
