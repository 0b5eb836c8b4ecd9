// Who may reach `serve`: others than this machine only once there is an API key. Looked at before the model is made ready, which takes long.
import { isIPv4 } from 'node:net';
import type { Config } from '../config.js';
import { GatewayError } from '../errors.js';

/** Throws invalid_config where others than this machine would reach a server that asks for no key. */
export async function checkHost({ host, dataDir }: Pick<Config, 'host' | 'dataDir'>): Promise<void> {
  if (isLoopback(host) || (await hasKeys(dataDir))) return;
  throw new GatewayError(
    'invalid_config',
    `Expected \`host\` to be this machine's loopback (127.0.0.1, ::1 or localhost) while there is no API key, got \`${host}\`: make one with \`graft keys create --scopes admin\` on the same data folder first`,
    { param: 'host' },
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** Revoked ones count: a server that has been closed once stays closed. */
async function hasKeys(dataDir: string): Promise<boolean> {
  // Loaded here: a start on the loopback reads nothing of the database before its engine loads.
  const [{ withTenantDatabase }, { listKeys }] = await Promise.all([
    import('./tenant-database.js'),
    import('../tenants/keys.js'),
  ]);
  return withTenantDatabase({ dataDir }, async (database) => (await listKeys(database, null)).length > 0);
}
