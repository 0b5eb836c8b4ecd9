// Which tenants may use another one's adapters: grants of a name, to a tenant or to all. A grant goes with the name.

import { GatewayError } from '../errors.js';
import type { RegistryDatabase } from './registry-tables.js';

/** Instead of a tenant: all of them. */
export const EVERYONE = '*';

/** A name that a tenant may use although it is another's. */
export interface SharedName {
  readonly owner: string;
  readonly name: string;
  /** Usable without the owner in front. */
  readonly isPlain: boolean;
}

export interface AdapterShares {
  /** Durable on return; again is no error. */
  grant(owner: string, name: string, grantee: string, isPlain: boolean): Promise<void>;
  /** False where there was no such grant. */
  revoke(owner: string, name: string, grantee: string): Promise<boolean>;
  /** To whom a name is granted. */
  granteesOf(owner: string, name: string): Promise<readonly string[]>;
  isGranted(owner: string, name: string, tenant: string): Promise<boolean>;
  /** Whose the name is where it is shared with the tenant under its plain name. */
  plainOwner(name: string, tenant: string): Promise<string | null>;
  /** All of others' names that a tenant may use, by owner and name. */
  grantedTo(tenant: string): Promise<readonly SharedName[]>;
}

export function createShares(db: RegistryDatabase, baseHash: string, clock: () => number): AdapterShares {
  const shares = () => db.selectFrom('adapter_shares').where('base_hash', '=', baseHash);
  const to = (tenant: string) => shares().where('grantee', 'in', [tenant, EVERYONE]);

  return {
    async grant(owner, name, grantee, isPlain) {
      const plain = isPlain ? 1 : 0;
      const created_at = Math.floor(clock() / 1000);
      await db
        .insertInto('adapter_shares')
        .values({ base_hash: baseHash, owner, name, grantee, plain, created_at })
        .onConflict((conflict) =>
          conflict.columns(['base_hash', 'owner', 'name', 'grantee']).doUpdateSet((row) => ({
            plain: row.fn<number>('max', ['adapter_shares.plain', 'excluded.plain']),
          })),
        )
        .execute();
    },
    async revoke(owner, name, grantee) {
      const row = await db
        .deleteFrom('adapter_shares')
        .where((where) => where.and({ base_hash: baseHash, owner, name, grantee }))
        .returning('grantee')
        .executeTakeFirst();
      return row !== undefined;
    },
    async granteesOf(owner, name) {
      const rows = await shares()
        .select('grantee')
        .where((where) => where.and({ owner, name }))
        .orderBy('grantee')
        .execute();
      return rows.map((row) => row.grantee);
    },
    async isGranted(owner, name, tenant) {
      const row = await to(tenant)
        .select('grantee')
        .where((where) => where.and({ owner, name }))
        .executeTakeFirst();
      return row !== undefined;
    },
    async plainOwner(name, tenant) {
      const row = await to(tenant)
        .select('owner')
        .where((where) => where.and({ name, plain: 1 }))
        .orderBy('owner')
        .executeTakeFirst();
      return row?.owner ?? null;
    },
    async grantedTo(tenant) {
      const rows = await to(tenant)
        .select(['owner', 'name', (column) => column.fn.max<number>('plain').as('plain')])
        .where('owner', '!=', tenant)
        .groupBy(['owner', 'name'])
        .orderBy('owner')
        .orderBy('name')
        .execute();
      return rows.map(({ owner, name, plain }) => ({ owner, name, isPlain: plain === 1 }));
    },
  };
}

const GRANTEE = /^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$/;

/** Whether such a tenant exists is not told. Throws invalid_value. */
export function checkGrantee(grantee: string, owner: string): void {
  if (GRANTEE.test(grantee) && grantee !== owner) return;
  throw new GatewayError(
    'invalid_value',
    `Expected \`tenant\` to be the name of another tenant, or \`*\` for all, got ${JSON.stringify(grantee.slice(0, 100))}`,
    { param: 'tenant' },
  );
}
