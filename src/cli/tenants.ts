// `tenants set|list`: the tenants of a data folder.
import type { ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { createTenant, findTenant, listTenants, NO_SETTINGS, updateTenant } from '../tenants/directory.js';
import type { Tenant, TenantSettings } from '../tenants/types.js';
import { nowS, withTenantDatabase } from './tenant-database.js';
import type { Terminal } from './terminal.js';
import { textTable } from './text-table.js';

/** Says that a limit is to be lifted. */
const LIFT = -1;
const MB = 2 ** 20;
const HEADINGS = ['TENANT', 'REQUESTS/MIN', 'TOKENS/MIN', 'ADAPTERS', 'MB', 'JOBS', 'PRIORITY'];

export async function setTenantCommand(
  name: string,
  config: ConfigOf<'tenants set'>,
  { stdout }: Terminal,
): Promise<number> {
  const tenant = await withTenantDatabase(config, async (database) => {
    const before = await findTenant(database, name);
    const settings = changed(before ?? NO_SETTINGS, config);
    return before === null
      ? createTenant(database, name, settings, nowS())
      : updateTenant(database, name, settings);
  });
  stdout.write(textTable([HEADINGS, cells(tenant)]));
  return 0;
}

export async function listTenantsCommand(
  config: ConfigOf<'tenants list'>,
  { stdout }: Terminal,
): Promise<number> {
  const tenants = await withTenantDatabase(config, listTenants);
  stdout.write(textTable([HEADINGS, ...tenants.map(cells)]));
  return 0;
}

/** Throws invalid_config for a rate of 0, which would answer nobody. */
function changed(before: TenantSettings, config: ConfigOf<'tenants set'>): TenantSettings {
  const { limits, quotas, priority } = before;
  const mb = config.tenantMaxMb;
  return {
    limits: {
      requestsPerMinute: rate(
        'requests-per-minute',
        limits.requestsPerMinute,
        config.tenantRequestsPerMinute,
      ),
      tokensPerMinute: rate('tokens-per-minute', limits.tokensPerMinute, config.tenantTokensPerMinute),
    },
    quotas: {
      adapters: limit(quotas.adapters, config.tenantMaxAdapters),
      bytes: limit(quotas.bytes, mb === null || mb === LIFT ? mb : mb * MB),
      jobs: limit(quotas.jobs, config.tenantMaxJobs),
    },
    priority: config.tenantPriority ?? priority,
  };
}

function limit(before: number | null, said: number | null): number | null {
  return said === null ? before : said === LIFT ? null : said;
}

function rate(flag: string, before: number | null, said: number | null): number | null {
  if (said === 0)
    throw new GatewayError(
      'invalid_config',
      `Expected \`${flag}\` to be at least 1, or -1 to lift it, got \`0\``,
      {
        param: flag,
      },
    );
  return limit(before, said);
}

function cells({ name, limits, quotas, priority }: Tenant): string[] {
  const text = (value: number | null): string => (value === null ? '-' : String(value));
  return [
    name,
    text(limits.requestsPerMinute),
    text(limits.tokensPerMinute),
    text(quotas.adapters),
    quotas.bytes === null ? '-' : (quotas.bytes / MB).toFixed(quotas.bytes % MB === 0 ? 0 : 1),
    text(quotas.jobs),
    String(priority),
  ];
}
