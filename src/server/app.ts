// The HTTP application as a value: app.request() drives it without a socket, listen.ts puts it on one.

import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { ERROR_CODES, GatewayError } from '../errors.js';
import { callerOfRequest, checkScopesOf } from './caller.js';
import type { ServerDependencies } from './dependencies.js';
import { registerEngineGauges } from './engine-gauges.js';
import { registerMergeGauges } from './merge-gauges.js';
import { errorBody, errorHeaders, toGatewayError } from './error-response.js';
import { ServerMetrics } from './metrics.js';
import { requestHeaders } from './request-headers.js';
import { registerAdapterRoutes } from './routes/adapters.js';
import { registerAdminKeyRoutes } from './routes/admin-keys.js';
import { registerAdminTenantRoutes } from './routes/admin-tenants.js';
import { registerAdminUsageRoute } from './routes/admin-usage.js';
import { registerAliasRoutes } from './routes/aliases.js';
import { registerFileRoutes } from './routes/files.js';
import { registerFineTuningRoutes } from './routes/fine-tuning.js';
import { registerGenerationRoutes } from './routes/generation.js';
import { registerModelRoutes } from './routes/models.js';
import { registerProbeRoutes } from './routes/probes.js';
import { registerRuntimeLoraRoutes } from './routes/runtime-lora.js';
import { registerTokenRoutes } from './routes/tokens.js';
import type { ServerApp, ServerEnv, Services } from './services.js';
import { createTenantMetrics } from './tenant-metrics.js';
import { registerTrainingGauges } from './training-gauges.js';

/** Every route over these dependencies. Registers its metrics, so a registry serves one app. */
export function createApp(dependencies: ServerDependencies): ServerApp {
  const { base, clock, engine, logger, metricsRegistry } = dependencies;
  const services: Services = {
    ...dependencies,
    metrics: new ServerMetrics(metricsRegistry, base.name, clock),
    tenantMetrics: createTenantMetrics(metricsRegistry),
    maxModelLen: Math.min(base.contextLength, engine.contextLength),
  };
  registerEngineGauges(dependencies);
  if (dependencies.merging) registerMergeGauges(dependencies, dependencies.merging);
  registerTrainingGauges(dependencies);

  const app = new OpenAPIHono<ServerEnv>();
  app.use(requestHeaders(services));
  app.use(callerOfRequest(services));
  app.onError((thrown, c) => respond(c, toGatewayError(thrown, c.var.requestId, logger)));
  // Answers rather than throws: what is thrown here would pass by the middleware.
  app.notFound((c) => respond(c, routeNotFound(c.req.method, c.req.path)));
  registerGenerationRoutes(app, services);
  registerModelRoutes(app, services);
  registerTokenRoutes(app, services);
  registerAdapterRoutes(app, services);
  registerAliasRoutes(app, services);
  registerRuntimeLoraRoutes(app, services);
  registerFileRoutes(app, services);
  registerFineTuningRoutes(app, services);
  registerAdminTenantRoutes(app, services);
  registerAdminKeyRoutes(app, services);
  registerAdminUsageRoute(app, services);
  registerProbeRoutes(app, services);
  checkScopesOf(app);
  refuseOtherMethods(app);
  return app;
}

function respond(c: Context<ServerEnv>, error: GatewayError): Response {
  return c.json(errorBody(error), ERROR_CODES[error.code][0], errorHeaders(error));
}

function routeNotFound(method: string, path: string): GatewayError {
  return new GatewayError('not_found', `No route ${method} ${path}; GET /openapi.json lists all of them`);
}

/** 405 with Allow where a path is known by other methods. To be called after the last route. */
function refuseOtherMethods(app: ServerApp): void {
  const methods = new Map<string, Set<string>>();
  for (const { path, method } of app.routes) {
    if (method === 'ALL') continue;
    methods.set(path, (methods.get(path) ?? new Set()).add(method));
  }
  for (const [path, allowed] of methods) {
    const allow = [...allowed].toSorted().join(', ');
    app.all(path, (c) => {
      c.header('allow', allow);
      throw new GatewayError(
        'method_not_allowed',
        `Expected ${c.req.path} with ${allow}, got ${c.req.method}`,
      );
    });
  }
}
