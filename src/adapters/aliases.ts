// Aliases: names of a tenant's own that stand for a base, an adapter or one version of it, or for several by percentages. Targets are
// kept as they were written and looked up by each request, so an alias for a name follows its current version.

import type { Selectable } from 'kysely';
import { GatewayError } from '../errors.js';
import { checkAdapterName } from './adapter-name.js';
import type { Alias, AliasTarget } from './protocol.js';
import { parseReference } from './reference.js';
import type { RegistryDatabase, RegistrySchema } from './registry-tables.js';

export interface AliasRows {
  /** By name. */
  list(tenant: string): Promise<readonly Alias[]>;
  get(tenant: string, alias: string): Promise<Alias | null>;
  /** Durable on return. */
  set(tenant: string, alias: string, targets: readonly AliasTarget[]): Promise<Alias>;
  remove(tenant: string, alias: string): Promise<boolean>;
}

/** What a request means that asks for no adapter by name. */
export const DEFAULT_ALIAS = 'default';
/** A bound on what a tenant can make the registry keep. */
const MAX_ALIASES = 1_000;
const MAX_TARGETS = 16;

export function createAliasRows(db: RegistryDatabase, baseHash: string, clock: () => number): AliasRows {
  const rows = (tenant: string) =>
    db.selectFrom('adapter_aliases').where('base_hash', '=', baseHash).where('tenant', '=', tenant);

  async function get(tenant: string, alias: string): Promise<Alias | null> {
    const row = await rows(tenant).selectAll().where('alias', '=', alias).executeTakeFirst();
    return row === undefined ? null : toAlias(row);
  }

  async function checkRoom(tenant: string): Promise<void> {
    const { count } = await rows(tenant)
      .select((column) => column.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    if (count >= MAX_ALIASES)
      throw invalid('alias', `There are ${count} aliases, which is the most; delete one first`);
  }

  return {
    get,
    async list(tenant) {
      return (await rows(tenant).selectAll().orderBy('alias').execute()).map(toAlias);
    },
    async set(tenant, alias, targets) {
      if ((await get(tenant, alias)) === null) await checkRoom(tenant);
      const now = Math.floor(clock() / 1000);
      const changed = { targets: JSON.stringify(targets), updated_at: now };
      const row = await db
        .insertInto('adapter_aliases')
        .values({ base_hash: baseHash, tenant, alias, created_at: now, ...changed })
        .onConflict((conflict) => conflict.columns(['base_hash', 'tenant', 'alias']).doUpdateSet(changed))
        .returningAll()
        .executeTakeFirstOrThrow();
      return toAlias(row);
    },
    async remove(tenant, alias) {
      const row = await db
        .deleteFrom('adapter_aliases')
        .where((where) => where.and({ base_hash: baseHash, tenant, alias }))
        .returning('alias')
        .executeTakeFirst();
      return row !== undefined;
    },
  };
}

/** Everything but whether the targets exist. Throws invalid_value. */
export function checkAlias(alias: string, targets: readonly AliasTarget[], baseName: string): void {
  checkAdapterName(alias, baseName, 'alias');
  if (targets.length === 0 || targets.length > MAX_TARGETS)
    throw invalid(
      'targets',
      `Expected \`targets\` to list 1 to ${MAX_TARGETS} models, got ${targets.length}`,
    );
  const seen = new Set<string>();
  for (const [index, { model, weight }] of targets.entries()) {
    if (!Number.isInteger(weight) || weight < 0 || weight > 100)
      throw invalid(
        `targets.${index}.weight`,
        `Expected \`targets.${index}.weight\` to be an integer between 0 and 100, got ${weight}`,
      );
    if (seen.has(model))
      throw invalid(
        `targets.${index}.model`,
        `\`targets\` lists ${JSON.stringify(model)} twice; add up its weights instead`,
      );
    seen.add(model);
  }
  const total = targets.reduce((sum, { weight }) => sum + weight, 0);
  if (total !== 100)
    throw invalid('targets', `Expected the weights of \`targets\` to make 100 together, got ${total}`);
}

/** The versions of an own adapter that aliases name: those outlive newer ones. */
export function versionsNamed(aliases: readonly Alias[], tenant: string, name: string): ReadonlySet<number> {
  const references = aliases.flatMap(({ targets }) => targets.map(({ model }) => parseReference(model)));
  const versions = references.flatMap((reference) => {
    if (reference?.version == null || reference.name !== name) return [];
    return reference.owner === null || reference.owner === tenant ? [reference.version] : [];
  });
  return new Set(versions);
}

function toAlias(row: Selectable<RegistrySchema['adapter_aliases']>): Alias {
  return {
    alias: row.alias,
    // Written by set() and by nobody else.
    targets: JSON.parse(row.targets) as AliasTarget[],
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function invalid(param: string, message: string): GatewayError {
  return new GatewayError('invalid_value', message, { param });
}
