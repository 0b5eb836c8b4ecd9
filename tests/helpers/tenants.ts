// Tenants over a real database: in memory with a clock that a test moves, or none at all for tests that are not about them.

import Database from 'libsql';
import { Kysely, SqliteDialect } from 'kysely';
import { createRateLimiter } from '../../src/tenants/rate-limit.js';
import { openTenants, type TenantService } from '../../src/tenants/service.js';
import type { TenantDatabase, TenantSchema } from '../../src/tenants/tables.js';
import { DEFAULT_TENANT, type Scope, SCOPES } from '../../src/tenants/types.js';
import type { Cleanup } from './running-server.js';

/** One connection to a file; ':memory:' is one of its own. */
export function openTenantDatabase(path = ':memory:'): TenantDatabase {
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('busy_timeout = 5000');
  return new Kysely<TenantSchema>({ dialect: new SqliteDialect({ database }) });
}

export interface TestTenants {
  readonly tenants: TenantService;
  readonly database: TenantDatabase;
  readonly time: { nowMs: number };
  readonly failures: unknown[];
}

/** Closed after the test. */
export async function testTenants(
  cleanup: Cleanup,
  time: { nowMs: number },
  path = ':memory:',
): Promise<TestTenants> {
  const database = openTenantDatabase(path);
  const failures: unknown[] = [];
  const tenants = await openTenants({
    database,
    clock: () => time.nowMs,
    onUsageFailure: (error) => failures.push(error),
  });
  cleanup.after(async () => {
    await tenants.close().catch(() => undefined);
    await database.destroy();
  });
  return { tenants, database, time, failures };
}

/** A key's secret. */
export async function makeKey(
  tenants: TenantService,
  scopes: readonly Scope[],
  tenant = DEFAULT_TENANT,
  expiresAt: number | null = null,
): Promise<string> {
  const key = await tenants.createKey({ tenant, name: 'test', scopes, expiresAt });
  return key.secret;
}

const refuse = () => Promise.reject(new Error('no change of tenants was expected'));

/** No key exists: everybody is let in, as the default tenant and without limits. */
export const noTenants: TenantService = {
  access: {
    isOpen: async () => true,
    identify: async () => ({ tenant: DEFAULT_TENANT, keyId: null, scopes: new Set(SCOPES), priority: 0 }),
    tenant: () => null,
    tenants: () => [],
  },
  limiter: createRateLimiter(() => 0),
  usage: { record: () => {}, keyUsed: () => {}, flush: () => Promise.resolve(), sum: async () => [] },
  createTenant: refuse,
  updateTenant: refuse,
  deleteTenant: refuse,
  createKey: refuse,
  listKeys: async () => [],
  rotateKey: refuse,
  revokeKey: refuse,
  close: () => Promise.resolve(),
};
