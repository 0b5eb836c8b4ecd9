// The HTTP application over real adapters, training, tenants and keys in one SQLite file, with a fake engine: what two tenants may see of
// each other is decided by what decides it in the product.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAdapterService } from '../../src/adapters/service.js';
import { NO_SETTINGS } from '../../src/tenants/directory.js';
import { openTenants } from '../../src/tenants/service.js';
import type { TenantDatabase } from '../../src/tenants/tables.js';
import type { Scope } from '../../src/tenants/types.js';
import type { TrainingDatabase } from '../../src/train/jobs/tables.js';
import { adapterFiles, fixtureBase } from './adapter-fixtures.js';
import type { Cleanup } from './running-server.js';
import { testApp, type TestAppOptions } from './server-app.js';
import { testTraining } from './training-jobs.js';

export const BASE = 'llama-tied';
const TENANT_SCOPES: readonly Scope[] = ['chat', 'adapters', 'train'];

export async function tenantApp(
  cleanup: Cleanup,
  tenantNames: readonly string[],
  { deps = {}, ...options }: TestAppOptions = {},
) {
  const dataDir = mkdtempSync(join(tmpdir(), 'tenants-'));
  const adapters = await createAdapterService({
    dataDir,
    base: fixtureBase(BASE),
    cacheBytes: 1 << 20,
    keptVersions: 3,
    runPrompt: () => Promise.reject(new Error('no prompts here')),
  });
  const tenants = await openTenants({
    database: adapters.database as unknown as TenantDatabase,
    clock: Date.now,
    onUsageFailure: (error) => {
      throw error;
    },
  });
  const { training } = await testTraining(cleanup, {
    dataDir,
    database: adapters.database as unknown as TrainingDatabase,
    publishTo: adapters,
  });
  cleanup.after(async () => {
    await training.close();
    await tenants.close();
    await adapters.dispose();
    rmSync(dataDir, { recursive: true, force: true });
  });
  const base = {
    name: BASE,
    baseHash: 'b'.repeat(64),
    createdAt: 1_690_000_000,
    source: 'hub/tiny',
    weights: 'q4',
    contextLength: 8192,
    ropeScaling: null,
  };
  const app = testApp({ ...options, deps: { adapters, training, tenants, base, ...deps } });
  const keys = new Map<string, string>();
  for (const tenant of tenantNames) {
    await tenants.createTenant(tenant, NO_SETTINGS);
    const key = { tenant, name: 'test', scopes: TENANT_SCOPES, expiresAt: null };
    keys.set(tenant, (await tenants.createKey(key)).secret);
  }
  return {
    ...app,
    adapters,
    training,
    tenants,
    dataDir,
    /** The application as one tenant's client sees it. */
    as: (tenant: string) => clientOf(app.app, keys.get(tenant)!),
  };
}

export type TenantClient = ReturnType<typeof clientOf>;

function clientOf(app: ReturnType<typeof testApp>['app'], key: string) {
  const ask = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    app.request(path, {
      method,
      headers: { authorization: `Bearer ${key}`, ...headers },
      ...(body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) }),
    });
  return {
    ask,
    upload(name: string, adapter = 'lora-qv-r8') {
      const form = new FormData();
      form.set('name', name);
      for (const [file, bytes] of adapterFiles(BASE, adapter))
        if (file.startsWith('adapter_')) form.append('file', new File([new Uint8Array(bytes)], file));
      return ask('POST', '/v1/adapters', form);
    },
    uploadExamples(text: string) {
      const form = new FormData();
      form.set('purpose', 'fine-tune');
      form.set('file', new File([text], 'train.jsonl'));
      return ask('POST', '/v1/files', form);
    },
    chat: (model: string, changes: object = {}, headers: Record<string, string> = {}) =>
      ask(
        'POST',
        '/v1/chat/completions',
        { model, messages: [{ role: 'user', content: 'hi' }], max_tokens: 1, ...changes },
        headers,
      ),
  };
}
