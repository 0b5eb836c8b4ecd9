// Tenants as the server sees them: joins rows (directory, keys), the view of who is let in, rate limits and usage over one connection.

import { type Access, openAccess } from './access.js';
import { createTenant, deleteTenant, updateTenant } from './directory.js';
import { createKey, type KeyRequest, listKeys, revokeKey, rotateKey } from './keys.js';
import { createRateLimiter, type RateLimiter } from './rate-limit.js';
import { migrateTenants, type TenantDatabase } from './tables.js';
import type { ApiKey, NewApiKey, Tenant, TenantSettings } from './types.js';
import { createUsageLedger, type UsageLedger } from './usage.js';

/** Every change counts from the next request on, and is durable on return. */
export interface TenantService {
  readonly access: Omit<Access, 'reload'>;
  readonly limiter: RateLimiter;
  readonly usage: UsageLedger;
  /** Throws tenant_exists and invalid_value. */
  createTenant(name: string, settings: TenantSettings): Promise<Tenant>;
  /** Replaces all settings. Throws not_found. */
  updateTenant(name: string, settings: TenantSettings): Promise<Tenant>;
  /** Ends its keys too. Throws not_found, and invalid_value for the default tenant. */
  deleteTenant(name: string): Promise<void>;
  /** Throws not_found and invalid_value. */
  createKey(request: KeyRequest): Promise<NewApiKey>;
  /** Oldest first; null is of all tenants. */
  listKeys(tenant: string | null): Promise<readonly ApiKey[]>;
  /** The old key is accepted for `overlapS` seconds more. Throws not_found and invalid_value. */
  rotateKey(id: string, overlapS: number): Promise<NewApiKey>;
  /** Throws not_found. */
  revokeKey(id: string): Promise<ApiKey>;
  /** What was recorded is durable on return. */
  close(): Promise<void>;
}

export interface TenantServiceOptions {
  /** The registry's database. One connection for all: a second one would wait for the first one's transactions and block the thread. */
  readonly database: TenantDatabase;
  /** Unix milliseconds. */
  readonly clock: () => number;
  /** Told where usage could not be written; it is kept for the next attempt. */
  readonly onUsageFailure: (error: unknown) => void;
}

export async function openTenants(options: TenantServiceOptions): Promise<TenantService> {
  const { database: db, clock, onUsageFailure } = options;
  await migrateTenants(db);
  const access = await openAccess(db, clock);
  const usage = createUsageLedger(db, clock, onUsageFailure);
  const now = () => Math.floor(clock() / 1000);
  const changed = async <T>(change: Promise<T>): Promise<T> => {
    const result = await change;
    await access.reload();
    return result;
  };
  return {
    access,
    limiter: createRateLimiter(clock),
    usage,
    createTenant: (name, settings) => changed(createTenant(db, name, settings, now())),
    updateTenant: (name, settings) => changed(updateTenant(db, name, settings)),
    deleteTenant: (name) => changed(deleteTenant(db, name, now())),
    createKey: (request) => changed(createKey(db, request, now())),
    rotateKey: (id, overlapS) => changed(rotateKey(db, id, overlapS, now())),
    revokeKey: (id) => changed(revokeKey(db, id, now())),
    async listKeys(tenant) {
      await usage.flush();
      return listKeys(db, tenant);
    },
    close: () => usage.flush(),
  };
}
