// API keys as rows: making, listing, rotating and revoking them. Durable on return. Who a key lets in is access.ts's business.

import { randomBytes } from 'node:crypto';
import type { Selectable } from 'kysely';
import { GatewayError } from '../errors.js';
import { newSecret } from './secret.js';
import type { KeyTable, TenantDatabase } from './tables.js';
import type { ApiKey, NewApiKey, Scope } from './types.js';

export interface KeyRequest {
  readonly tenant: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Unix seconds; null is never. */
  readonly expiresAt: number | null;
}

export type KeyRow = Selectable<KeyTable>;

const MAX_NAME_LENGTH = 128;

/** Throws not_found for a tenant that does not exist, invalid_value. */
export async function createKey(db: TenantDatabase, request: KeyRequest, now: number): Promise<NewApiKey> {
  checkRequest(request, now);
  return db.transaction().execute(async (transaction) => {
    const { row, secret } = newRow(request, now);
    // The write comes first: it takes the lock, so that the tenant cannot go between the look and the key.
    await transaction.insertInto('api_keys').values(row).execute();
    const tenant = await transaction
      .selectFrom('tenants')
      .select('name')
      .where('name', '=', request.tenant)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (tenant === undefined)
      throw new GatewayError('not_found', `No tenant \`${request.tenant}\` exists; create it first`, {
        param: 'tenant',
      });
    return { ...toKey(row), secret };
  });
}

/** Oldest first; null is of all tenants. */
export async function listKeys(db: TenantDatabase, tenant: string | null): Promise<readonly ApiKey[]> {
  let query = db.selectFrom('api_keys').selectAll().orderBy('created_at').orderBy('id');
  if (tenant !== null) query = query.where('tenant', '=', tenant);
  return (await query.execute()).map(toKey);
}

/**
 * A new key with the old one's tenant, name, scopes and length of life. The old one is accepted for `overlapS` seconds more, and never
 * longer than it would have been. Throws not_found, and invalid_value for a key that has ended or was rotated before.
 */
export async function rotateKey(
  db: TenantDatabase,
  id: string,
  overlapS: number,
  now: number,
): Promise<NewApiKey> {
  return db.transaction().execute(async (transaction) => {
    // As in createKey: the lock, before the look.
    await transaction.updateTable('api_keys').set({ id }).where('id', '=', id).execute();
    const old = await findKey(transaction, id);
    const state = keyState(toKey(old), now);
    if (state !== 'active' || old.rotated_to !== null)
      throw new GatewayError(
        'invalid_value',
        `Expected a key that is active, to rotate it; ${id} is ${old.rotated_to === null ? state : `rotated to ${old.rotated_to}`}`,
        { param: 'key' },
      );
    const { tenant, name, expires_at: expiresAt } = old;
    const lifetime = expiresAt === null ? null : expiresAt - old.created_at;
    const request = { tenant, name, scopes: scopesOf(old), expiresAt: lifetime && now + lifetime };
    const { row, secret } = newRow(request, now);
    await transaction.insertInto('api_keys').values(row).execute();
    const end = Math.min(now + overlapS, expiresAt ?? Infinity);
    await transaction
      .updateTable('api_keys')
      .set({ rotated_to: row.id, expires_at: end })
      .where('id', '=', id)
      .execute();
    return { ...toKey(row), secret };
  });
}

/** A revoked key stays as it was. Throws not_found. */
export async function revokeKey(db: TenantDatabase, id: string, now: number): Promise<ApiKey> {
  await db
    .updateTable('api_keys')
    .set({ revoked_at: now })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .execute();
  return toKey(await findKey(db, id));
}

export type KeyState = 'active' | 'expired' | 'revoked';

export function keyState({ expiresAt, revokedAt }: ApiKey, now: number): KeyState {
  if (revokedAt !== null) return 'revoked';
  return expiresAt !== null && now >= expiresAt ? 'expired' : 'active';
}

export function toKey(row: KeyRow): ApiKey {
  return {
    id: row.id,
    tenant: row.tenant,
    name: row.name,
    prefix: row.prefix,
    scopes: scopesOf(row),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    lastUsedAt: row.last_used_at,
    rotatedTo: row.rotated_to,
  };
}

/** Written by newRow and by nobody else. */
function scopesOf({ scopes }: KeyRow): readonly Scope[] {
  return scopes.split(',') as Scope[];
}

async function findKey(db: TenantDatabase, id: string): Promise<KeyRow> {
  const row = await db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst();
  if (row !== undefined) return row;
  throw new GatewayError('not_found', `No key with the id \`${id}\` exists; list the keys to see their ids`, {
    param: 'key',
  });
}

function newRow({ tenant, name, scopes, expiresAt }: KeyRequest, now: number) {
  const { text, hash, prefix } = newSecret();
  const row: KeyRow = {
    id: `key_${randomBytes(12).toString('hex')}`,
    hash,
    tenant,
    name,
    prefix,
    scopes: [...new Set(scopes)].join(','),
    created_at: now,
    expires_at: expiresAt,
    revoked_at: null,
    last_used_at: null,
    rotated_to: null,
  };
  return { row, secret: text };
}

function checkRequest({ name, scopes, expiresAt }: KeyRequest, now: number): void {
  const refuse = (param: string, expected: string, got: unknown): never => {
    throw new GatewayError(
      'invalid_value',
      `Expected \`${param}\` to be ${expected}, got \`${String(got)}\``,
      {
        param,
      },
    );
  };
  if (name.length > MAX_NAME_LENGTH) refuse('name', `at most ${MAX_NAME_LENGTH} characters`, name);
  if (scopes.length === 0) refuse('scopes', 'at least one scope', '');
  if (expiresAt !== null && expiresAt <= now) refuse('expires_at', `later than now, ${now}`, expiresAt);
}
