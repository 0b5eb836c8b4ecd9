// `keys create|list|rotate|revoke`: the API keys of a data folder. A key alone is what goes to stdout, so that a script can take it.
import type { ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { createKey, keyState, listKeys, revokeKey, rotateKey } from '../tenants/keys.js';
import { type ApiKey, type NewApiKey, type Scope, SCOPES } from '../tenants/types.js';
import { nowS, withTenantDatabase } from './tenant-database.js';
import type { Terminal } from './terminal.js';
import { textTable } from './text-table.js';

const DAY_S = 24 * 3600;
const HEADINGS = ['ID', 'TENANT', 'NAME', 'PREFIX', 'SCOPES', 'STATE', 'CREATED', 'EXPIRES', 'LAST USED'];

export async function createKeyCommand(config: ConfigOf<'keys create'>, terminal: Terminal): Promise<number> {
  const now = nowS();
  const { keyTenant: tenant, keyName, keyScopes, keyExpiresDays: days } = config;
  const request = {
    tenant,
    name: keyName ?? '',
    scopes: parseScopes(keyScopes),
    expiresAt: days === null ? null : now + days * DAY_S,
  };
  const key = await withTenantDatabase(config, (database) => createKey(database, request, now));
  return tellNew(key, terminal);
}

export async function listKeysCommand(config: ConfigOf<'keys list'>, { stdout }: Terminal): Promise<number> {
  const keys = await withTenantDatabase(config, (database) => listKeys(database, config.keyListTenant));
  if (keys.length === 0) stdout.write('no keys; make one with `graft keys create`\n');
  else stdout.write(textTable([HEADINGS, ...keys.map((key) => cells(key, nowS()))]));
  return 0;
}

export async function rotateKeyCommand(
  id: string,
  config: ConfigOf<'keys rotate'>,
  terminal: Terminal,
): Promise<number> {
  const overlapS = config.keyOverlapMinutes * 60;
  const key = await withTenantDatabase(config, (database) => rotateKey(database, id, overlapS, nowS()));
  terminal.stderr.write(
    overlapS === 0
      ? `${id} is refused from now on\n`
      : `${id} is accepted for ${config.keyOverlapMinutes} min more\n`,
  );
  return tellNew(key, terminal);
}

export async function revokeKeyCommand(
  id: string,
  config: ConfigOf<'keys revoke'>,
  { stdout }: Terminal,
): Promise<number> {
  await withTenantDatabase(config, (database) => revokeKey(database, id, nowS()));
  stdout.write(`${id}: revoked\n`);
  return 0;
}

function tellNew({ id, tenant, scopes, secret, expiresAt }: NewApiKey, { stdout, stderr }: Terminal): number {
  const end = expiresAt === null ? 'does not expire' : `expires ${time(expiresAt)}`;
  stderr.write(`${id} of ${tenant}: ${scopes.join(', ')}; ${end}. It is shown this once:\n`);
  stdout.write(`${secret}\n`);
  return 0;
}

/** Throws invalid_config. */
function parseScopes(text: string): readonly Scope[] {
  return text.split(',').map((word) => {
    const scope = SCOPES.find((known) => known === word.trim());
    if (scope !== undefined) return scope;
    throw new GatewayError(
      'invalid_config',
      `Expected \`scopes\` to be one or more of ${SCOPES.join(', ')} with commas between them, got \`${text}\``,
      { param: 'scopes' },
    );
  });
}

function cells(key: ApiKey, now: number): string[] {
  return [
    key.id,
    key.tenant,
    key.name,
    key.prefix,
    key.scopes.join(','),
    key.rotatedTo === null ? keyState(key, now) : `${keyState(key, now)}, rotated to ${key.rotatedTo}`,
    time(key.createdAt),
    key.expiresAt === null ? 'never' : time(key.expiresAt),
    key.lastUsedAt === null ? 'never' : time(key.lastUsedAt),
  ];
}

function time(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ');
}
