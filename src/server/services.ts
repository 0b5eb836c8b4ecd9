// The dependencies plus what createApp derives from them: what every route is given.

import type { OpenAPIHono } from '@hono/zod-openapi';
import type { ServerDependencies } from './dependencies.js';
import type { ServerMetrics } from './metrics.js';

export interface Services extends ServerDependencies {
  readonly metrics: ServerMetrics;
  /** Longest prompt plus answer in tokens: the shorter of what the base was made for and what a slot holds. */
  readonly maxModelLen: number;
}

export interface ServerEnv {
  Variables: { requestId: string };
}

export type ServerApp = OpenAPIHono<ServerEnv>;
