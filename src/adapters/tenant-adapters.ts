// One tenant's view of the adapters: every method finds what it is about through the tenant's own eyes, and changes own names only.

import { GatewayError } from '../errors.js';
import { DEFAULT_TENANT } from '../tenants/types.js';
import { adapterFiles } from './adapter-files.js';
import { checkAdapterName } from './adapter-name.js';
import { checkAlias, versionsNamed } from './aliases.js';
import { checkParts, combinationInfo, inOrder } from './combination.js';
import { FilesGone, type Loaded } from './loading.js';
import { modelNotFound, noSuchVersion, notOwn, withoutVersion } from './ownership-errors.js';
import { readPeft } from './peft.js';
import type { TenantAdapters, TenantAliases } from './protocol.js';
import { parseReference } from './reference.js';
import type { ServiceParts } from './service.js';
import { checkGrantee } from './shares.js';
import type { AdapterInfo, AdapterLease } from './types.js';
import { plainName } from './visibility.js';

export function tenantAdapters(parts: ServiceParts, tenant: string): TenantAdapters {
  const { base, registry, shares, aliases, visibility, store, loader, change, checkOpen } = parts;
  const find = (reference: string) => visibility.find(tenant, reference);

  /** The plain name of what is the tenant's own; null where nothing is. Throws not_permitted for what is shared with it. */
  async function ownName(reference: string): Promise<string | null> {
    const parsed = parseReference(reference);
    if (parsed === null) return null;
    if (parsed.version !== null) throw withoutVersion(reference);
    const info = await find(reference);
    if (info === null) return null;
    if (info.owner !== tenant) throw notOwn(reference, info.owner);
    return parsed.name;
  }

  async function existing(reference: string): Promise<AdapterInfo> {
    checkOpen();
    const info = await find(reference);
    if (info !== null) return info;
    const others = await registry.otherBases(tenant, parseReference(reference)?.name ?? '');
    throw modelNotFound(reference, others[0]);
  }

  /** Between finding a name and reading its files the name may have moved to other files: then it is looked up once more. */
  async function whileMoving<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof FilesGone)) throw error;
        const { owner, version, hash } = error.info;
        const now = await registry.find(owner, plainName(error.info), version);
        if (now?.hash === hash)
          throw new GatewayError(
            'internal_error',
            `The stored files of ${error.info.name} are missing; register it again`,
            { cause: error },
          );
      }
    }
  }

  const acquire = (reference: string) =>
    whileMoving(async () => {
      const info = await existing(reference);
      return lease(await loader.acquire(info, labelOf(info)), info);
    });

  return {
    acquire,
    async list() {
      checkOpen();
      return visibility.list(tenant);
    },
    async get(reference) {
      checkOpen();
      return find(reference);
    },
    async versions(reference) {
      checkOpen();
      const info = await find(reference);
      if (info === null) return [];
      const versions = await registry.versions(info.owner, plainName(info));
      return versions.map((version) => ({ ...version, info: { ...version.info, name: info.name } }));
    },
    async register(name, files) {
      checkOpen();
      const parsed = parseReference(name);
      const plain = parsed?.owner === tenant && parsed.version === null ? parsed.name : name;
      checkAdapterName(plain, base.name);
      const { facts } = await readPeft(files, base);
      return change(async () => {
        checkOpen();
        if ((await registry.find(tenant, plain, null)) === null)
          await parts.checkQuota(tenant, 'adapters', 1);
        await parts.checkQuota(tenant, 'bytes', facts.sizeBytes);
        await store.put(facts.hash, adapterFiles(files));
        const createdAt = Math.floor(parts.clock() / 1000);
        const exempt = versionsNamed(await aliases.list(tenant), tenant, plain);
        const adapter = { ...facts, owner: tenant, name: plain, base: base.name, createdAt };
        const { info, dropped } = await registry.add(adapter, { numKept: parts.keptVersions, exempt });
        for (const hash of dropped) await loader.retire(hash);
        return info;
      });
    },
    async rollback(reference, version) {
      checkOpen();
      return change(async () => {
        const name = await ownName(reference);
        if (name === null) return null;
        const versions = await registry.versions(tenant, name);
        const current = versions.find(({ isCurrent }) => isCurrent)!.info.version;
        const wanted = version ?? versions.find(({ info }) => info.version < current)?.info.version;
        const target = versions.find(({ info }) => info.version === wanted);
        if (target === undefined) throw noSuchVersion(name, version, current, versions);
        await registry.makeCurrent(tenant, name, target.info.version);
        return target.info;
      });
    },
    async remove(reference) {
      checkOpen();
      return change(async () => {
        checkOpen();
        const name = await ownName(reference);
        if (name === null) return false;
        const hashes = await registry.remove(tenant, name);
        for (const hash of new Set(hashes)) await loader.retire(hash);
        return hashes.length > 0;
      });
    },
    async share(reference, grantee) {
      checkOpen();
      checkGrantee(grantee, tenant);
      return change(async () => {
        const name = await ownName(reference);
        if (name === null) return false;
        await shares.grant(tenant, name, grantee, false);
        return true;
      });
    },
    async unshare(reference, grantee) {
      checkOpen();
      const name = await ownName(reference);
      return name !== null && shares.revoke(tenant, name, grantee);
    },
    async grantees(reference) {
      checkOpen();
      const info = await find(reference);
      return info?.owner === tenant ? shares.granteesOf(tenant, plainName(info)) : null;
    },
    async acquireCombination(wanted) {
      checkParts(wanted);
      const [first] = wanted;
      if (wanted.length === 1 && first!.scale === 1) return acquire(first!.name);
      return whileMoving(async () => {
        const found = await Promise.all(
          wanted.map(async ({ name, scale }) => ({ info: await existing(name), scale })),
        );
        const ordered = inOrder(found);
        const labels = ordered.map(({ info }) => labelOf(info));
        return lease(await loader.acquireCombination(ordered, labels), combinationInfo(ordered, tenant));
      });
    },
    aliases: tenantAliases(parts, tenant),
  };
}

function tenantAliases(
  { aliases, base, change, checkOpen, visibility }: ServiceParts,
  tenant: string,
): TenantAliases {
  return {
    async list() {
      checkOpen();
      return aliases.list(tenant);
    },
    async get(alias) {
      checkOpen();
      return aliases.get(tenant, alias);
    },
    async set(alias, targets) {
      checkOpen();
      checkAlias(alias, targets, base.name);
      // Among the changes, so that no version goes between the check and the alias that keeps it.
      return change(async () => {
        for (const [index, { model }] of targets.entries())
          if (model !== base.name && (await visibility.find(tenant, model)) === null)
            throw modelNotFound(model, undefined, `targets.${index}.model`);
        return aliases.set(tenant, alias, targets);
      });
    },
    async remove(alias) {
      checkOpen();
      return aliases.remove(tenant, alias);
    },
  };
}

function lease(loaded: Loaded, info: AdapterInfo): AdapterLease {
  return { adapter: loaded.adapter, info, release: () => loaded.release() };
}

/** One name for one adapter in metrics, whoever asks. */
function labelOf(info: AdapterInfo): string {
  const name = plainName(info);
  return info.owner === DEFAULT_TENANT ? name : `${info.owner}/${name}`;
}
