// The dependencies plus what createApp derives from them: what every route is given.

import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Caller } from '../tenants/types.js';
import type { ServerDependencies } from './dependencies.js';
import type { ServerMetrics } from './metrics.js';
import type { TenantMetrics } from './tenant-metrics.js';

export interface Services extends ServerDependencies {
  readonly metrics: ServerMetrics;
  readonly tenantMetrics: TenantMetrics;
  /** Longest prompt plus answer in tokens: the shorter of what the base was made for and what a slot holds. */
  readonly maxModelLen: number;
}

export interface ServerEnv {
  Variables: { requestId: string; caller: Caller };
}

export type ServerApp = OpenAPIHono<ServerEnv>;
