// Which adapters are registered: every version a row, one of them current for each tenant and name. Rows only: files are the store's.
// Every call names the tenant whose rows it is about; who may call it for whom is decided above.

import type { Selectable } from 'kysely';
import type { AdapterHoldings } from './protocol.js';
import type { RegistryDatabase, RegistrySchema } from './registry-tables.js';
import type { AdapterInfo } from './types.js';

/** `name` is the plain one. */
export type NewAdapter = Omit<AdapterInfo, 'version'>;

export interface AdapterVersion {
  readonly info: AdapterInfo;
  readonly isCurrent: boolean;
}

export interface VersionLimit {
  /** Versions of a name that are kept. */
  readonly numKept: number;
  /** Versions that are kept beyond it. */
  readonly exempt: ReadonlySet<number>;
}

export interface AdapterRegistry {
  /** Current versions, by name. */
  list(tenant: string): Promise<readonly AdapterInfo[]>;
  /** A version; null is the current one. */
  find(tenant: string, name: string, version: number | null): Promise<AdapterInfo | null>;
  /** Newest first. */
  versions(tenant: string, name: string): Promise<readonly AdapterVersion[]>;
  /** Adds the next version, makes it current, and drops the oldest beyond the limit; their hashes. Durable on return. */
  add(
    adapter: NewAdapter,
    limit: VersionLimit,
  ): Promise<{ readonly info: AdapterInfo; readonly dropped: readonly string[] }>;
  /** False where the name has no such version. Durable on return. */
  makeCurrent(tenant: string, name: string, version: number): Promise<boolean>;
  /** Removes the name, all its versions and whom it was shared with; the versions' hashes. Durable on return. */
  remove(tenant: string, name: string): Promise<readonly string[]>;
  /** Names of the bases other than this for which the tenant has the name. */
  otherBases(tenant: string, name: string): Promise<readonly string[]>;
  /** Names and bytes of a tenant, all versions and bases counted. */
  holdings(tenant: string): Promise<AdapterHoldings>;
  /** Hashes of all versions of all tenants and bases. */
  usedHashes(): Promise<ReadonlySet<string>>;
}

/** SQLite wants a limit beside an offset. */
const MAX_DROPPED = 1_000;

export function createRegistry(db: RegistryDatabase, baseHash: string): AdapterRegistry {
  const ofName = (tenant: string, name: string): NameKey => ({ base_hash: baseHash, tenant, name });
  const rows = (tenant: string) =>
    db.selectFrom('adapters').selectAll().where('base_hash', '=', baseHash).where('tenant', '=', tenant);

  return {
    async list(tenant) {
      return (await rows(tenant).where('current', '=', 1).orderBy('name').execute()).map(toInfo);
    },
    async find(tenant, name, version) {
      const named = rows(tenant).where('name', '=', name);
      const one = version === null ? named.where('current', '=', 1) : named.where('version', '=', version);
      const row = await one.executeTakeFirst();
      return row === undefined ? null : toInfo(row);
    },
    async versions(tenant, name) {
      const found = await rows(tenant).where('name', '=', name).orderBy('version', 'desc').execute();
      return found.map((row) => ({ info: toInfo(row), isCurrent: row.current === 1 }));
    },
    add: (adapter, limit) =>
      db.transaction().execute(async (transaction) => {
        const info = await addVersion(transaction, baseHash, adapter);
        const dropped = await dropOldest(transaction, ofName(info.owner, info.name), limit);
        return { info, dropped };
      }),
    makeCurrent: (tenant, name, version) =>
      db.transaction().execute(async (transaction) => {
        const versions = transaction
          .updateTable('adapters')
          .where((where) => where.and(ofName(tenant, name)));
        // The other one goes first: there is never a second current version.
        await versions
          .set({ current: 0 })
          .where('current', '=', 1)
          .where((where) =>
            where.exists(rows(tenant).where('name', '=', name).where('version', '=', version)),
          )
          .execute();
        const row = await versions
          .set({ current: 1 })
          .where('version', '=', version)
          .returning('version')
          .executeTakeFirst();
        return row !== undefined;
      }),
    remove: (tenant, name) =>
      db.transaction().execute(async (transaction) => {
        const removed = await transaction
          .deleteFrom('adapters')
          .where((where) => where.and(ofName(tenant, name)))
          .returning('hash')
          .execute();
        await transaction
          .deleteFrom('adapter_shares')
          .where((where) => where.and({ base_hash: baseHash, owner: tenant, name }))
          .execute();
        return removed.map((row) => row.hash);
      }),
    async otherBases(tenant, name) {
      const found = await db
        .selectFrom('adapters')
        .selectAll()
        .where((where) => where.and({ tenant, name, current: 1 }))
        .where('base_hash', '!=', baseHash)
        .execute();
      return found.map((row) => toInfo(row).base);
    },
    async holdings(tenant) {
      const found = await db.selectFrom('adapters').selectAll().where('tenant', '=', tenant).execute();
      return {
        numAdapters: found.filter((row) => row.current === 1).length,
        sizeBytes: found.reduce((sum, row) => sum + toInfo(row).sizeBytes, 0),
      };
    },
    async usedHashes() {
      const found = await db.selectFrom('adapters').select('hash').distinct().execute();
      return new Set(found.map((row) => row.hash));
    },
  };
}

/** The columns that all versions of a name share. */
type NameKey = Readonly<Pick<RegistrySchema['adapters'], 'base_hash' | 'tenant' | 'name'>>;

async function addVersion(db: RegistryDatabase, baseHash: string, adapter: NewAdapter): Promise<AdapterInfo> {
  const { owner: tenant, name, hash, createdAt, ...rest } = adapter;
  const key: NameKey = { base_hash: baseHash, tenant, name };
  // The write comes first: it takes the lock, so that nobody else can give out the same version.
  await db
    .updateTable('adapters')
    .set({ current: 0 })
    .where((where) => where.and({ ...key, current: 1 }))
    .execute();
  const newest = await db
    .selectFrom('adapters')
    .select((column) => column.fn.max('version').as('version'))
    .where((where) => where.and(key))
    .executeTakeFirst();
  const version = (newest?.version ?? 0) + 1;
  await db
    .insertInto('adapters')
    .values({
      ...key,
      version,
      hash,
      info: JSON.stringify(rest),
      created_at: createdAt,
      current: 1,
    })
    .execute();
  return { ...adapter, version };
}

/** Hashes of the versions that were dropped. */
async function dropOldest(
  db: RegistryDatabase,
  key: NameKey,
  { numKept, exempt }: VersionLimit,
): Promise<readonly string[]> {
  const old = await db
    .selectFrom('adapters')
    .select('version')
    .where((where) => where.and(key))
    .orderBy('version', 'desc')
    .offset(numKept)
    .limit(MAX_DROPPED)
    .execute();
  const versions = old.map((row) => row.version).filter((version) => !exempt.has(version));
  if (versions.length === 0) return [];
  const dropped = await db
    .deleteFrom('adapters')
    .where((where) => where.and(key))
    .where('version', 'in', versions)
    .returning('hash')
    .execute();
  return dropped.map((row) => row.hash);
}

function toInfo(row: Selectable<RegistrySchema['adapters']>): AdapterInfo {
  // Written by addVersion and by nobody else.
  const rest: Omit<AdapterInfo, 'owner' | 'name' | 'version' | 'hash' | 'createdAt'> = JSON.parse(row.info);
  const { tenant: owner, name, version, hash, created_at: createdAt } = row;
  return { ...rest, owner, name, version, hash, createdAt };
}
