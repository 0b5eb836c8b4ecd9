// vLLM's /v1/load_lora_adapter and /v1/unload_lora_adapter, for tools that speak them. Off unless a folder is configured;
// a path counts only where, links resolved, it lies inside that folder.

import { realpath } from 'node:fs/promises';
import { relative, resolve, isAbsolute, sep } from 'node:path';
import { z } from '@hono/zod-openapi';
import type { TenantAdapters } from '../../adapters/protocol.js';
import { GatewayError } from '../../errors.js';
import { boolean, string } from '../openai/fields.js';
import { limitBody, readJson } from '../request-body.js';
import type { ServerApp, Services } from '../services.js';
import { checkNotBase } from './adapters.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

export const RUNTIME_LORA_OPTION = '--allow-runtime-lora';

const loadRequest = z.strictObject({
  lora_name: string().optional(),
  lora_path: string().optional(),
  /** Replace what has this name. */
  load_inplace: boolean().optional(),
  base_model_name: string().optional(),
});
const unloadRequest = z.strictObject({ lora_name: string().optional() });

export function registerRuntimeLoraRoutes(app: ServerApp, services: Services): void {
  const limit = limitBody(MAX_JSON_BYTES);
  const { runtimeLora } = services;
  if (runtimeLora === null) {
    app.post('/v1/load_lora_adapter', refuseOff);
    app.post('/v1/unload_lora_adapter', refuseOff);
    return;
  }
  documentRoute(app, 'post', '/v1/load_lora_adapter', 'Register an adapter from the folder', {
    body: loadRequest,
    responseType: 'text/plain',
  });
  app.post('/v1/load_lora_adapter', limit, async (c) => {
    const own = services.adapters.of(c.var.caller.tenant);
    const request = await readJson(c, loadRequest);
    const name = await load(services, own, c.var.caller.tenant, runtimeLora.folder, request);
    return c.text(`Success: LoRA adapter '${name}' added successfully.`);
  });
  documentRoute(app, 'post', '/v1/unload_lora_adapter', 'Remove an adapter', {
    body: unloadRequest,
    responseType: 'text/plain',
  });
  app.post('/v1/unload_lora_adapter', limit, async (c) => {
    const { lora_name: name } = await readJson(c, unloadRequest);
    if (name === undefined || name === '') throw missing("'lora_name' needs to be provided.", 'lora_name');
    if (!(await services.adapters.of(c.var.caller.tenant).remove(name))) {
      throw new GatewayError('not_found', `The lora adapter '${name}' cannot be found.`, {
        param: 'lora_name',
      });
    }
    return c.text(`Success: LoRA adapter '${name}' removed successfully.`);
  });
}

async function load(
  services: Services,
  own: TenantAdapters,
  tenant: string,
  folder: string,
  request: z.infer<typeof loadRequest>,
): Promise<string> {
  const { lora_name: name = '', lora_path: path = '', base_model_name: baseName } = request;
  if (name === '' || path === '') {
    throw missing(
      "Both 'lora_name' and 'lora_path' must be provided.",
      name === '' ? 'lora_name' : 'lora_path',
    );
  }
  checkNotBase(name, services, 'lora_name');
  checkBase(baseName, services);
  if (request.load_inplace !== true && (await own.get(name))?.owner === tenant) {
    throw new GatewayError('invalid_value', `The lora adapter '${name}' has already been loaded.`, {
      param: 'lora_name',
    });
  }
  const files = await services.readAdapterFolder(await pathInside(folder, path));
  await own.register(name, files);
  return name;
}

/** The real path. Throws not_permitted outside the folder, not_found where nothing is. */
async function pathInside(folder: string, path: string): Promise<string> {
  const root = await realpath(folder);
  const asked = resolve(root, path);
  if (!isInside(root, asked) && !isInside(resolve(folder), asked)) throw outside(path);
  const real = await realpathOrNull(asked);
  if (real === null) {
    throw new GatewayError('not_found', `No adapter found for '${path}'.`, { param: 'lora_path' });
  }
  if (!isInside(root, real)) throw outside(path);
  return real;
}

async function realpathOrNull(path: string): Promise<string | null> {
  try {
    return await realpath(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return null;
    throw error;
  }
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function outside(path: string): GatewayError {
  return new GatewayError(
    'not_permitted',
    `Expected \`lora_path\` to lie inside the folder given with ${RUNTIME_LORA_OPTION}, got \`${path}\``,
    { param: 'lora_path' },
  );
}

function checkBase(baseName: string | undefined, { base }: Services): void {
  if (baseName === undefined || baseName === base.name || baseName === base.source) return;
  throw new GatewayError(
    'adapter_base_mismatch',
    `Expected \`base_model_name\` to be \`${base.name}\`, the base served here, got \`${baseName}\``,
    { param: 'base_model_name' },
  );
}

function missing(text: string, param: string): GatewayError {
  return new GatewayError('invalid_value', text, { param });
}

function refuseOff(): never {
  throw new GatewayError(
    'not_found',
    `Loading adapters from folders is off; start the server with ${RUNTIME_LORA_OPTION} to turn it on`,
  );
}
