// The protocol of adapters: what the server and training ask of them. Everything about names goes through one tenant's view, from which
// nobody else's adapters can be reached but those that their owners share.

import type { AdapterVersion } from './registry.js';
import type { AdapterInfo, AdapterLease } from './types.js';

export interface AliasTarget {
  /** The base, or an adapter as the tenant may write it: `name`, `owner/name`, either with `@version`. */
  readonly model: string;
  /** Percent of the requests; all of an alias make 100. */
  readonly weight: number;
}

export interface Alias {
  readonly alias: string;
  readonly targets: readonly AliasTarget[];
  /** Unix seconds. */
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface TenantAliases {
  /** By name. */
  list(): Promise<readonly Alias[]>;
  get(alias: string): Promise<Alias | null>;
  /** Replaces what the alias was. Durable on return. Throws invalid_value, and model_not_found for a target; `param` is the field. */
  set(alias: string, targets: readonly AliasTarget[]): Promise<Alias>;
  /** False where no such alias is. */
  remove(alias: string): Promise<boolean>;
}

/**
 * What one tenant may do with adapters. A reference is `name`, `owner/name` or either with `@version`; an own name goes before a shared
 * one. Another tenant's adapter that is not shared is answered like one that does not exist. Methods that change something take own
 * names, and throw not_permitted for a shared one.
 */
export interface TenantAdapters {
  /** Current versions: own ones, then those shared with the tenant. */
  list(): Promise<readonly AdapterInfo[]>;
  get(reference: string): Promise<AdapterInfo | null>;
  /** Newest first; empty where no such adapter is. */
  versions(reference: string): Promise<readonly AdapterVersion[]>;
  /**
   * Validates a PEFT folder's files (base name -> bytes), stores them, registers a new version under the name. Durable on return.
   * Throws GatewayError invalid_value (name), invalid_adapter, unsupported_adapter, adapter_base_mismatch.
   */
  register(name: string, files: ReadonlyMap<string, Uint8Array>): Promise<AdapterInfo>;
  /** Makes a version current, null being the one before the current one. Null where no such adapter is. Throws not_found (version). */
  rollback(name: string, version: number | null): Promise<AdapterInfo | null>;
  /** With all its versions. False where no such adapter is. Requests under way finish. */
  remove(name: string): Promise<boolean>;
  /** Lets a tenant, or all (`*`), use it. False where no such adapter is. Throws invalid_value. */
  share(name: string, grantee: string): Promise<boolean>;
  /** False where it was not shared so. Requests under way finish. */
  unshare(name: string, grantee: string): Promise<boolean>;
  /** With whom it is shared; null where it is not the tenant's own. */
  grantees(name: string): Promise<readonly string[] | null>;
  /** Loads it if needed (one load, shared by its waiters) and pins it. Throws model_not_found. */
  acquire(reference: string): Promise<AdapterLease>;
  /** Several LoRAs as one: y += sum of scale_i * delta_i. Throws model_not_found, unsupported_adapter. */
  acquireCombination(
    parts: readonly { readonly name: string; readonly scale: number }[],
  ): Promise<AdapterLease>;
  readonly aliases: TenantAliases;
}

export interface AdapterHoldings {
  readonly numAdapters: number;
  readonly sizeBytes: number;
}

export interface AdapterService {
  of(tenant: string): TenantAdapters;
  /** What a tenant has, for quotas. */
  holdings(tenant: string): Promise<AdapterHoldings>;
  /** What is loaded now, for metrics. A name has its owner in front unless that is the default tenant. */
  resident(): readonly {
    readonly name: string;
    readonly hash: string;
    readonly sizeBytes: number;
    readonly pins: number;
  }[];
}
