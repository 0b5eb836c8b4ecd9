// What machines ask: /health, /ready, /metrics and /openapi.json.

import { GatewayError } from '../../errors.js';
import type { ServerApp, Services } from '../services.js';
import { documentRoute } from './document.js';

export function registerProbeRoutes(app: ServerApp, services: Services): void {
  documentRoute(app, 'get', '/health', 'The process answers');
  app.get('/health', (c) => c.json({ status: 'ok' }));
  documentRoute(app, 'get', '/ready', 'Requests are served');
  app.get('/ready', (c) => {
    if (!services.isReady()) throw new GatewayError('unavailable', 'The server is not ready; ask again soon');
    return c.json({ status: 'ready' });
  });
  documentRoute(app, 'get', '/metrics', 'Prometheus metrics', { responseType: 'text/plain' });
  app.get('/metrics', async (c) => {
    const text = await services.metricsRegistry.metrics();
    return c.body(text, 200, { 'content-type': services.metricsRegistry.contentType });
  });
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: { title: 'OpenAI-compatible serving of one base model and its adapters', version: '1' },
  });
}
