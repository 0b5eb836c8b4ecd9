// Tenants as rows: making, changing and deleting them. Durable on return.

import type { Selectable } from 'kysely';
import { GatewayError } from '../errors.js';
import type { TenantDatabase, TenantTable } from './tables.js';
import { DEFAULT_TENANT, type Tenant, type TenantSettings } from './types.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export const NO_SETTINGS: TenantSettings = {
  limits: { requestsPerMinute: null, tokensPerMinute: null },
  quotas: { adapters: null, bytes: null, jobs: null },
  priority: 0,
};

/** By name. */
export async function listTenants(db: TenantDatabase): Promise<readonly Tenant[]> {
  const rows = await db
    .selectFrom('tenants')
    .selectAll()
    .where('deleted_at', 'is', null)
    .orderBy('name')
    .execute();
  return rows.map(toTenant);
}

export async function findTenant(db: TenantDatabase, name: string): Promise<Tenant | null> {
  const row = await db
    .selectFrom('tenants')
    .selectAll()
    .where('name', '=', name)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  return row === undefined ? null : toTenant(row);
}

/** Throws tenant_exists, and invalid_value for a name that is not allowed. */
export async function createTenant(
  db: TenantDatabase,
  name: string,
  settings: TenantSettings,
  now: number,
): Promise<Tenant> {
  if (!NAME.test(name))
    throw new GatewayError(
      'invalid_value',
      `Expected \`name\` to be 1 to 64 letters, digits, ".", "_" or "-", beginning with a letter or digit, got ${JSON.stringify(name.slice(0, 100))}`,
      { param: 'name' },
    );
  const tenant = { name, createdAt: now, ...settings };
  const { numInsertedOrUpdatedRows: count } = await db
    .insertInto('tenants')
    .values({ name, created_at: now, deleted_at: null, ...columnsOf(settings) })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .executeTakeFirstOrThrow();
  if (count === 1n) return tenant;
  throw new GatewayError(
    'tenant_exists',
    `A tenant \`${name}\` exists, or did: names are not given twice; choose another one`,
    {
      param: 'name',
    },
  );
}

/** Replaces all settings. Throws not_found. */
export async function updateTenant(
  db: TenantDatabase,
  name: string,
  settings: TenantSettings,
): Promise<Tenant> {
  const row = await db
    .updateTable('tenants')
    .set(columnsOf(settings))
    .where('name', '=', name)
    .where('deleted_at', 'is', null)
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) throw tenantNotFound(name);
  return toTenant(row);
}

/** Ends the tenant's keys with it; its usage stays, and its name is not given again. Throws not_found, and invalid_value for the default tenant. */
export async function deleteTenant(db: TenantDatabase, name: string, now: number): Promise<void> {
  if (name === DEFAULT_TENANT)
    throw new GatewayError(
      'invalid_value',
      `The tenant \`${name}\` cannot be deleted; revoke its keys instead`,
      {
        param: 'name',
      },
    );
  await db.transaction().execute(async (transaction) => {
    const gone = await transaction
      .updateTable('tenants')
      .set({ deleted_at: now })
      .where('name', '=', name)
      .where('deleted_at', 'is', null)
      .returning('name')
      .executeTakeFirst();
    if (gone === undefined) throw tenantNotFound(name);
    await transaction
      .updateTable('api_keys')
      .set({ revoked_at: now })
      .where('tenant', '=', name)
      .where('revoked_at', 'is', null)
      .execute();
  });
}

export function tenantNotFound(name: string): GatewayError {
  return new GatewayError(
    'not_found',
    `No tenant \`${name}\` exists; list the tenants to see those that do`,
    {
      param: 'tenant',
    },
  );
}

function columnsOf({ limits, quotas, priority }: TenantSettings) {
  return {
    priority,
    requests_per_minute: limits.requestsPerMinute,
    tokens_per_minute: limits.tokensPerMinute,
    max_adapters: quotas.adapters,
    max_bytes: quotas.bytes,
    max_jobs: quotas.jobs,
  };
}

function toTenant(row: Selectable<TenantTable>): Tenant {
  return {
    name: row.name,
    createdAt: row.created_at,
    priority: row.priority,
    limits: { requestsPerMinute: row.requests_per_minute, tokensPerMinute: row.tokens_per_minute },
    quotas: { adapters: row.max_adapters, bytes: row.max_bytes, jobs: row.max_jobs },
  };
}
