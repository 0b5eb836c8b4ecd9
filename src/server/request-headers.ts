// What surrounds every answer: its id, how long it took, its place in the HTTP counts.

import { randomUUID } from 'node:crypto';
import { createMiddleware } from 'hono/factory';
import { routePath } from 'hono/route';
import type { ServerEnv, Services } from './services.js';

/** The date of OpenAI's API that this one follows. */
const OPENAI_VERSION = '2020-10-01';
const SANE_REQUEST_ID = /^[\w.:/+=@-]{1,128}$/;

export function requestHeaders({ clock, metrics }: Pick<Services, 'clock' | 'metrics'>) {
  return createMiddleware<ServerEnv>(async function addRequestHeaders(c, next) {
    const startedMs = clock();
    const given = c.req.header('x-request-id');
    const requestId = given !== undefined && SANE_REQUEST_ID.test(given) ? given : newRequestId();
    c.set('requestId', requestId);
    await next();
    c.res.headers.set('x-request-id', requestId);
    c.res.headers.set('openai-version', OPENAI_VERSION);
    c.res.headers.set('openai-processing-ms', String(Math.round(clock() - startedMs)));
    const path = routePath(c, -1);
    metrics.httpAnswered(path.includes('*') ? 'unmatched' : path, c.req.method, c.res.status);
  });
}

function newRequestId(): string {
  return `req_${randomUUID().replaceAll('-', '')}`;
}
