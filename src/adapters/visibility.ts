// What a tenant sees: its own adapters, and those that their owners share with it. The one place that decides it: whatever is not found
// here does not exist for the tenant, and whether another tenant has it makes no difference.

import { parseReference } from './reference.js';
import type { AdapterRegistry } from './registry.js';
import type { AdapterShares } from './shares.js';
import type { AdapterInfo } from './types.js';

export interface Visibility {
  /** `name`, `owner/name`, `name@3`: an own name goes before a shared one. `info.name` is how the tenant may write it. */
  find(tenant: string, reference: string): Promise<AdapterInfo | null>;
  /** Current versions: the tenant's own by name, then others' by owner and name. */
  list(tenant: string): Promise<readonly AdapterInfo[]>;
}

export function createVisibility(registry: AdapterRegistry, shares: AdapterShares): Visibility {
  async function owns(tenant: string, name: string): Promise<boolean> {
    return (await registry.find(tenant, name, null)) !== null;
  }

  /** The owner of what a tenant means by a name, and how it writes it. */
  async function locate(
    tenant: string,
    owner: string | null,
    name: string,
  ): Promise<{ readonly owner: string; readonly written: string } | null> {
    if (owner === tenant) return { owner, written: name };
    if (owner !== null) {
      const isGranted = await shares.isGranted(owner, name, tenant);
      return isGranted ? { owner, written: `${owner}/${name}` } : null;
    }
    if (await owns(tenant, name)) return { owner: tenant, written: name };
    const sharer = await shares.plainOwner(name, tenant);
    return sharer === null ? null : { owner: sharer, written: name };
  }

  return {
    async find(tenant, reference) {
      const parsed = parseReference(reference);
      if (parsed === null) return null;
      const place = await locate(tenant, parsed.owner, parsed.name);
      if (place === null) return null;
      const info = await registry.find(place.owner, parsed.name, parsed.version);
      return info === null ? null : { ...info, name: place.written };
    },
    async list(tenant) {
      const own = await registry.list(tenant);
      const ownNames = new Set(own.map((info) => info.name));
      const shared: AdapterInfo[] = [];
      for (const { owner, name, isPlain } of await shares.grantedTo(tenant)) {
        const info = await registry.find(owner, name, null);
        const written = isPlain && !ownNames.has(name) ? name : `${owner}/${name}`;
        if (info !== null) shared.push({ ...info, name: written });
      }
      return [...own, ...shared];
    },
  };
}

/** The name without its owner. */
export function plainName({ name }: Pick<AdapterInfo, 'name'>): string {
  return name.slice(name.lastIndexOf('/') + 1);
}
