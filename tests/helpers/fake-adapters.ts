// An adapter service without files: a map of names that are everybody's, with every lease counted. What tenants may see of each other is
// tested over the real one.

import { GatewayError } from '../../src/errors.js';
import type { AdapterService, TenantAdapters, TenantAliases } from '../../src/adapters/protocol.js';
import type { AdapterInfo, AdapterLease, ServingAdapter } from '../../src/adapters/types.js';

const refuse = () => Promise.reject(new Error('the fake has no such thing'));

export class FakeAdapters implements AdapterService, TenantAdapters {
  readonly #infos = new Map<string, AdapterInfo>();
  readonly registered: { name: string; files: ReadonlyMap<string, Uint8Array> }[] = [];
  readonly combinations: (readonly { name: string; scale: number }[])[] = [];
  numAcquired = 0;
  numReleased = 0;
  /** What the next register or acquire throws. */
  failure: Error | null = null;

  constructor(names: readonly string[] = []) {
    for (const name of names) this.add(name);
  }

  add(name: string, changes: Partial<AdapterInfo> = {}): AdapterInfo {
    const info: AdapterInfo = {
      name,
      owner: 'default',
      version: (this.#infos.get(name)?.version ?? 0) + 1,
      hash: `hash-of-${name}`,
      peftType: 'LORA',
      servedAs: 'lora',
      rank: 8,
      targetModules: ['q_proj', 'v_proj'],
      numVirtualTokens: null,
      sizeBytes: 1234,
      base: 'tiny',
      createdAt: 1_700_000_000,
      ...changes,
    };
    this.#infos.set(name, info);
    return info;
  }

  readonly aliases: TenantAliases = {
    list: () => Promise.resolve([]),
    get: () => Promise.resolve(null),
    set: refuse,
    remove: refuse,
  };
  readonly rollback = refuse;
  readonly share = refuse;
  readonly unshare = refuse;

  of(): TenantAdapters {
    return this;
  }

  async holdings() {
    return { numAdapters: this.#infos.size, sizeBytes: 0 };
  }

  async grantees(): Promise<readonly string[]> {
    return [];
  }

  async versions(name: string) {
    const info = await this.get(name);
    return info === null ? [] : [{ info, isCurrent: true }];
  }

  async list(): Promise<readonly AdapterInfo[]> {
    return [...this.#infos.values()];
  }

  async get(name: string): Promise<AdapterInfo | null> {
    return this.#infos.get(name.replace(/^default\//, '')) ?? null;
  }

  async register(name: string, files: ReadonlyMap<string, Uint8Array>): Promise<AdapterInfo> {
    this.#fail();
    this.registered.push({ name, files });
    return this.add(name);
  }

  async remove(name: string): Promise<boolean> {
    return this.#infos.delete(name);
  }

  async acquire(name: string): Promise<AdapterLease> {
    this.#fail();
    const info = this.#infos.get(name);
    if (info === undefined) throw new GatewayError('model_not_found', `no adapter ${name}`);
    return this.#lease(info);
  }

  async acquireCombination(
    parts: readonly { readonly name: string; readonly scale: number }[],
  ): Promise<AdapterLease> {
    this.#fail();
    for (const { name } of parts) {
      if (!this.#infos.has(name)) throw new GatewayError('model_not_found', `no adapter ${name}`);
    }
    this.combinations.push(parts);
    return this.#lease(this.#infos.get(parts[0]!.name)!);
  }

  resident() {
    return [...this.#infos.values()].map(({ name, hash, sizeBytes }) => ({
      name,
      hash,
      sizeBytes,
      pins: this.numAcquired - this.numReleased,
    }));
  }

  #lease(info: AdapterInfo): AdapterLease {
    this.numAcquired++;
    const { hash, sizeBytes } = info;
    const adapter: ServingAdapter = {
      kind: 'lora',
      hash,
      sizeBytes,
      maxRank: 8,
      hasAffine: false,
      layers: [],
    };
    return {
      adapter,
      info,
      release: () => {
        this.numReleased++;
      },
    };
  }

  #fail(): void {
    if (this.failure !== null) throw this.failure;
  }
}
