// The OpenAPI side of a route: what GET /openapi.json says about it. Bodies are validated by request-body.ts, not here,
// so that every refusal has OpenAI's error body.

import { z } from '@hono/zod-openapi';
import type { ServerApp } from '../services.js';

/** Room for a few thousand prompts of token ids. */
export const MAX_JSON_BYTES = 16 * 1024 * 1024;

export interface RouteDocument {
  readonly body?: z.ZodType;
  readonly bodyType?: string;
  readonly status?: number;
  readonly responseType?: string;
  readonly query?: z.ZodObject;
}

const errorSchema = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
  })
  .meta({ id: 'Error' });

/** @param path with parameters as {name} */
export function documentRoute(
  app: ServerApp,
  method: 'get' | 'post' | 'put' | 'delete',
  path: string,
  summary: string,
  document: RouteDocument = {},
): void {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
  const { body, bodyType = 'application/json', status = 200, responseType = 'application/json' } = document;
  const { query } = document;
  app.openAPIRegistry.registerPath({
    method,
    path,
    summary,
    request: {
      ...(names.length > 0 && {
        params: z.object(Object.fromEntries(names.map((name) => [name, z.string()]))),
      }),
      ...(query && { query }),
      ...(body && { body: { required: true, content: { [bodyType]: { schema: body } } } }),
    },
    responses: {
      [status]: { description: 'Done', content: { [responseType]: { schema: {} } } },
      default: { description: 'Refused or failed', content: { 'application/json': { schema: errorSchema } } },
    },
  });
}
