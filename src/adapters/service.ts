// The adapters of one base: joins registry (names), shares, aliases, store (files) and loader (loaded ones), and gives each tenant its view.
// Registrations and removals change registry and store one after the other; loading and finding wait for nobody.

import { join } from 'node:path';
import { assert, GatewayError } from '../errors.js';
import type { CheckQuota } from '../tenants/check-quota.js';
import { DEFAULT_TENANT } from '../tenants/types.js';
import { type AliasRows, createAliasRows } from './aliases.js';
import type { AdapterBase } from './base.js';
import { type AdapterLoader, createLoader, type LoaderOptions } from './loading.js';
import type { CacheUsage } from './pinned-cache.js';
import type { AdapterService } from './protocol.js';
import { type AdapterRegistry, createRegistry } from './registry.js';
import { openRegistryDatabase, type RegistryDatabase } from './registry-tables.js';
import { createSerial, type Serial } from './serial.js';
import { type AdapterShares, createShares, EVERYONE } from './shares.js';
import { type AdapterStore, openStore } from './store.js';
import { tenantAdapters } from './tenant-adapters.js';
import { createVisibility, type Visibility } from './visibility.js';

export interface AdapterServiceOptions extends LoaderOptions {
  /** Holds `registry.db` and `adapters/`; made where it is missing. */
  readonly dataDir: string;
  /** Versions of a name that are kept. */
  readonly keptVersions: number;
  /** Absent is without quotas. */
  readonly checkQuota?: CheckQuota;
  /** Unix milliseconds. */
  readonly clock?: () => number;
}

export interface LocalAdapterService extends AdapterService {
  readonly database: RegistryDatabase;
  /** Shares an adapter of the default tenant with all under its plain name: the operator's own. */
  publish(name: string): Promise<void>;
  /** How the bytes for loaded adapters are used. */
  usage(): CacheUsage;
  /** Waits for changes under way and closes the database. Leases stay valid. */
  dispose(): Promise<void>;
}

/** What a tenant's view works with. */
export interface ServiceParts {
  readonly base: AdapterBase;
  readonly keptVersions: number;
  readonly registry: AdapterRegistry;
  readonly shares: AdapterShares;
  readonly aliases: AliasRows;
  readonly visibility: Visibility;
  readonly store: AdapterStore;
  readonly loader: AdapterLoader;
  readonly change: Serial;
  readonly checkQuota: CheckQuota;
  readonly clock: () => number;
  /** Throws unavailable once the service is disposed of. */
  readonly checkOpen: () => void;
}

/** A registration of another process on the same folder takes less than this from its files to its row. */
const SWEEP_GRACE_MS = 60_000;

const NO_QUOTA: CheckQuota = () => Promise.resolve();

export async function createAdapterService(options: AdapterServiceOptions): Promise<LocalAdapterService> {
  const { base, dataDir, keptVersions, checkQuota = NO_QUOTA, clock = Date.now } = options;
  const store = await openStore(join(dataDir, 'adapters'));
  const database = await openRegistryDatabase(join(dataDir, 'registry.db'));
  const registry = createRegistry(database, base.baseHash);
  const shares = createShares(database, base.baseHash, clock);
  const used = await registry.usedHashes();
  await store.sweep((hash) => used.has(hash), SWEEP_GRACE_MS, clock());

  let isOpen = true;
  const checkOpen = () => {
    if (!isOpen) throw new GatewayError('unavailable', 'The gateway is shutting down; try again');
  };
  const change = createSerial();
  const loader = createLoader(options, {
    store,
    usedHashes: () => registry.usedHashes(),
    change,
    isOpen: () => isOpen,
  });
  const parts: ServiceParts = {
    base,
    keptVersions,
    registry,
    shares,
    aliases: createAliasRows(database, base.baseHash, clock),
    visibility: createVisibility(registry, shares),
    store,
    loader,
    change,
    checkQuota,
    clock,
    checkOpen,
  };
  return {
    database,
    of: (tenant) => tenantAdapters(parts, tenant),
    holdings: (tenant) => registry.holdings(tenant),
    resident: () => loader.resident(),
    usage: () => loader.usage(),
    publish: (name) =>
      change(async () => {
        checkOpen();
        const info = await registry.find(DEFAULT_TENANT, name, null);
        assert(info !== null, `${name} is to be shared before it is registered`);
        await shares.grant(DEFAULT_TENANT, name, EVERYONE, true);
      }),
    async dispose() {
      if (!isOpen) return;
      isOpen = false;
      await change(() => database.destroy());
    },
  };
}
