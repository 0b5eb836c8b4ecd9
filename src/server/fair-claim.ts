// What a request is scheduled by: its key's tenant and priority, and the fairness id that it may give itself. The id divides what the
// tenant gets, it never adds to it.

import type { Context } from 'hono';
import type { FairClaim } from '../engine/types.js';
import { GatewayError } from '../errors.js';
import type { ServerEnv } from './services.js';

/** Of the Gateway API Inference Extension. */
const FAIRNESS_HEADER = 'x-gateway-inference-fairness-id';
const MAX_ID_LENGTH = 256;

/** Throws GatewayError invalid_value for an id that is too long. */
export function claimOf(c: Context<ServerEnv>): FairClaim {
  const { tenant, priority } = c.get('caller');
  const id = c.req.header(FAIRNESS_HEADER)?.trim() ?? '';
  if (id.length > MAX_ID_LENGTH)
    throw new GatewayError(
      'invalid_value',
      `Expected the header ${FAIRNESS_HEADER} to have at most ${MAX_ID_LENGTH} characters, got ${id.length}`,
      { param: FAIRNESS_HEADER },
    );
  return { tenant, fairnessId: id === '' ? null : id, priority };
}
