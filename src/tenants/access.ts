// Who is let in: keys and tenants in memory, found by hash in one step. Every look first asks the database whether another process has
// changed it (some 40 microseconds), so that a key made or revoked by the command line counts from the next request on.

import { sql } from 'kysely';
import { GatewayError } from '../errors.js';
import { listTenants } from './directory.js';
import { type KeyRow, keyState, toKey } from './keys.js';
import { hashOf } from './secret.js';
import type { TenantDatabase } from './tables.js';
import { type ApiKey, type Caller, DEFAULT_TENANT, SCOPES, type Tenant } from './types.js';

export interface Access {
  /** No key has ever been made, so that everybody is let in. */
  isOpen(): Promise<boolean>;
  /** Who the key is for; while no key exists, everybody. Throws invalid_api_key where it is missing (null), unknown, revoked or expired. */
  identify(secret: string | null): Promise<Caller>;
  /** As of the last look. */
  tenant(name: string): Tenant | null;
  tenants(): readonly Tenant[];
  /** To be awaited after each change of keys or tenants on this connection; from then on the change counts. */
  reload(): Promise<void>;
}

interface View {
  readonly keys: ReadonlyMap<string, { readonly key: ApiKey; readonly caller: Caller }>;
  readonly tenants: ReadonlyMap<string, Tenant>;
}

/** While no key exists, everybody may do everything, as the default tenant. */
function anyone(tenants: View['tenants']): Caller {
  const priority = tenants.get(DEFAULT_TENANT)?.priority ?? 0;
  return { tenant: DEFAULT_TENANT, keyId: null, scopes: new Set(SCOPES), priority };
}

/** @param clock Unix milliseconds */
export async function openAccess(db: TenantDatabase, clock: () => number): Promise<Access> {
  let view: View = { keys: new Map(), tenants: new Map() };
  let numLoads = 0;
  let lastShown = 0;
  let loading: { readonly version: number; readonly done: Promise<void> } | null = null;

  /** A load that began later read newer rows: one that comes in after it changes nothing. */
  async function reload(): Promise<void> {
    const load = ++numLoads;
    const loaded = await readView(db);
    if (load < lastShown) return;
    lastShown = load;
    view = loaded;
  }

  /** Only commits of other connections change the version. Asked before the rows are read, so that none is missed. */
  async function refresh(): Promise<void> {
    const version = await dataVersion(db);
    if (loading?.version !== version) {
      const done = reload();
      const mine = { version, done };
      loading = mine;
      done.catch(() => {
        if (loading === mine) loading = null;
      });
    }
    await loading.done;
  }

  await refresh();
  return {
    reload,
    tenant: (name) => view.tenants.get(name) ?? null,
    tenants: () => [...view.tenants.values()],
    async isOpen() {
      await refresh();
      return view.keys.size === 0;
    },
    async identify(secret) {
      await refresh();
      if (view.keys.size === 0) return anyone(view.tenants);
      if (secret === null)
        throw new GatewayError(
          'invalid_api_key',
          'This server asks for an API key; send it in the header `Authorization: Bearer KEY`',
        );
      const found = view.keys.get(hashOf(secret));
      if (found === undefined) throw invalidKey('is not known here');
      const state = keyState(found.key, Math.floor(clock() / 1000));
      if (state !== 'active') throw invalidKey(state === 'expired' ? 'has expired' : 'has been revoked');
      return found.caller;
    },
  };
}

/** Says nothing of the key: messages are logged. */
function invalidKey(fault: string): GatewayError {
  return new GatewayError(
    'invalid_api_key',
    `The API key of this request ${fault}; ask the operator for one`,
  );
}

async function readView(db: TenantDatabase): Promise<View> {
  const rows: readonly KeyRow[] = await db.selectFrom('api_keys').selectAll().execute();
  const tenants = new Map((await listTenants(db)).map((tenant) => [tenant.name, tenant]));
  const entries = rows.map((row) => {
    const key = toKey(row);
    return [row.hash, { key, caller: callerOf(key, tenants.get(key.tenant)) }] as const;
  });
  return { keys: new Map(entries), tenants };
}

function callerOf({ tenant, id, scopes }: ApiKey, settings: Tenant | undefined): Caller {
  return { tenant, keyId: id, scopes: new Set(scopes), priority: settings?.priority ?? 0 };
}

async function dataVersion(db: TenantDatabase): Promise<number> {
  const { rows } = await sql<{ data_version: number }>`pragma data_version`.execute(db);
  return rows[0]!.data_version;
}
