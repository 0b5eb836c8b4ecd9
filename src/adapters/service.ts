// The adapters of one base: registering, finding, loading and pinning them. Joins registry (names), store (files) and cache (loaded ones).
// Registrations and removals change registry and store one after the other; loading and finding wait for nobody.

import { join } from 'node:path';
import { assert, GatewayError } from '../errors.js';
import { adapterFiles } from './adapter-files.js';
import { checkAdapterName } from './adapter-name.js';
import type { AdapterBase } from './base.js';
import {
  checkCombinable,
  checkParts,
  combinationInfo,
  type CombinationPart,
  combineLoras,
  inOrder,
} from './combination.js';
import { createPacer } from './pacer.js';
import { readPeft } from './peft.js';
import { type CacheUsage, createPinnedCache, type Pin } from './pinned-cache.js';
import { type AdapterRegistry, openRegistry } from './registry.js';
import { createSerial } from './serial.js';
import { type AdapterStore, openStore } from './store.js';
import type {
  AdapterInfo,
  AdapterLease,
  AdapterService,
  PrefixAdapter,
  PromptEmbeddings,
  ServingAdapter,
} from './types.js';

export interface AdapterServiceOptions {
  /** Holds `registry.db` and `adapters/`; made where it is missing. */
  readonly dataDir: string;
  readonly base: AdapterBase;
  /** What loaded adapters may take in memory, in bytes; pinned ones may exceed it. */
  readonly cacheBytes: number;
  /** Runs virtual tokens through the base, giving their keys and values. */
  readonly runPrompt: (embeddings: PromptEmbeddings) => Promise<PrefixAdapter>;
  /** Unix milliseconds. */
  readonly clock?: () => number;
}

export interface LocalAdapterService extends AdapterService {
  readonly database: AdapterRegistry['database'];
  /** How the bytes for loaded adapters are used. */
  usage(): CacheUsage;
  /** Waits for changes under way and closes the database. Leases stay valid. */
  dispose(): Promise<void>;
}

/** A registration of another process on the same folder takes less than this from its files to its row. */
const SWEEP_GRACE_MS = 60_000;

export async function createAdapterService(options: AdapterServiceOptions): Promise<LocalAdapterService> {
  const clock = options.clock ?? Date.now;
  const store = await openStore(join(options.dataDir, 'adapters'));
  const registry = await openRegistry(join(options.dataDir, 'registry.db'), options.base.baseHash);
  const used = await registry.usedHashes();
  await store.sweep((hash) => used.has(hash), SWEEP_GRACE_MS, clock());
  return new LocalService(options, store, registry, clock);
}

class LocalService implements LocalAdapterService {
  readonly #options: AdapterServiceOptions;
  readonly #store: AdapterStore;
  readonly #registry: AdapterRegistry;
  readonly #clock: () => number;
  readonly #cache;
  readonly #change = createSerial();
  /** Hashes without a name, whose files wait for the last pin to go. */
  readonly #retired = new Set<string>();
  #isDisposed = false;

  constructor(
    options: AdapterServiceOptions,
    store: AdapterStore,
    registry: AdapterRegistry,
    clock: () => number,
  ) {
    this.#options = options;
    this.#store = store;
    this.#registry = registry;
    this.#clock = clock;
    this.#cache = createPinnedCache<ServingAdapter>(options.cacheBytes);
  }

  get database(): AdapterRegistry['database'] {
    return this.#registry.database;
  }

  async list(): Promise<readonly AdapterInfo[]> {
    this.#checkOpen();
    return this.#registry.list();
  }

  async get(name: string): Promise<AdapterInfo | null> {
    this.#checkOpen();
    return this.#registry.get(name);
  }

  async register(name: string, files: ReadonlyMap<string, Uint8Array>): Promise<AdapterInfo> {
    this.#checkOpen();
    const { base } = this.#options;
    checkAdapterName(name, base.name);
    const { facts } = await readPeft(files, base);
    return this.#change(async () => {
      this.#checkOpen();
      await this.#store.put(facts.hash, adapterFiles(files));
      const createdAt = Math.floor(this.#clock() / 1000);
      const added = await this.#registry.add({ ...facts, name, base: base.name, createdAt });
      if (added.superseded !== null) await this.#retire(added.superseded);
      return added.info;
    });
  }

  async remove(name: string): Promise<boolean> {
    this.#checkOpen();
    return this.#change(async () => {
      this.#checkOpen();
      const hash = await this.#registry.remove(name);
      if (hash !== null) await this.#retire(hash);
      return hash !== null;
    });
  }

  async acquire(name: string): Promise<AdapterLease> {
    return this.#whileMoving(async () => {
      const info = await this.#find(name);
      return this.#lease(await this.#pin(info), info);
    });
  }

  async acquireCombination(
    parts: readonly { readonly name: string; readonly scale: number }[],
  ): Promise<AdapterLease> {
    checkParts(parts);
    const [first] = parts;
    if (parts.length === 1 && first!.scale === 1) return this.acquire(first!.name);
    return this.#whileMoving(async () => {
      const found = await Promise.all(
        parts.map(async ({ name, scale }) => ({ info: await this.#find(name), scale })),
      );
      const ordered = inOrder(found);
      const info = combinationInfo(ordered);
      const pin = await this.#cache.acquire(info.hash, info.name, () => this.#combine(info.hash, ordered));
      return this.#lease(pin, info);
    });
  }

  resident() {
    return this.#cache
      .rows()
      .map(({ key, label, sizeBytes, pins }) => ({ name: label, hash: key, sizeBytes, pins }));
  }

  usage(): CacheUsage {
    return this.#cache.usage();
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.#change(() => this.#registry.close());
  }

  async #find(name: string): Promise<AdapterInfo> {
    this.#checkOpen();
    const info = await this.#registry.get(name);
    if (info !== null) return info;
    const [other] = await this.#registry.otherBases(name);
    const hint =
      other === undefined
        ? 'register it, or see the list of models'
        : `it is registered for the base ${other}`;
    throw new GatewayError('model_not_found', `The model ${JSON.stringify(name)} does not exist; ${hint}`, {
      param: 'model',
    });
  }

  #pin(info: AdapterInfo): Promise<Pin<ServingAdapter>> {
    return this.#cache.acquire(info.hash, info.name, () => this.#load(info));
  }

  async #load(info: AdapterInfo): Promise<ServingAdapter> {
    const files = await this.#store.read(info.hash);
    if (files === null) throw new FilesGone(info);
    const { content } = await readPeft(files, this.#options.base);
    if (content.hash !== info.hash)
      throw new GatewayError(
        'internal_error',
        `The stored files of ${info.name} have changed (hash ${content.hash}, expected ${info.hash}); register it again`,
      );
    if (content.kind !== 'prompt') return content;
    const prefix = await this.#options.runPrompt(content);
    assert(
      prefix.hash === info.hash,
      `runPrompt gave a prefix of hash ${prefix.hash}, expected ${info.hash}`,
    );
    return prefix;
  }

  async #combine(hash: string, parts: readonly CombinationPart[]): Promise<ServingAdapter> {
    const settled = await Promise.allSettled(parts.map(({ info }) => this.#pin(info)));
    try {
      const loras = settled.map((result, index) => {
        if (result.status === 'rejected') throw result.reason;
        const { info, scale } = parts[index]!;
        return { adapter: checkCombinable(info.name, result.value.value), scale };
      });
      return await combineLoras(this.#options.base.architecture, hash, loras, createPacer());
    } finally {
      for (const [index, result] of settled.entries())
        if (result.status === 'fulfilled') this.#release(result.value, parts[index]!.info.hash);
    }
  }

  #lease(pin: Pin<ServingAdapter>, info: AdapterInfo): AdapterLease {
    return { adapter: pin.value, info, release: () => this.#release(pin, info.hash) };
  }

  #release(pin: Pin<ServingAdapter>, hash: string): void {
    pin.release();
    if (!this.#retired.has(hash) || this.#cache.isHeld(hash) || this.#isDisposed) return;
    // Where this fails the hash stays retired, and the files are swept at the next start.
    this.#change(() => this.#retire(hash)).catch(() => this.#retired.add(hash));
  }

  /** Forgets a hash that may have lost its last name: its files at once, or when the last pin goes. Runs alone. */
  async #retire(hash: string): Promise<void> {
    this.#retired.delete(hash);
    if ((await this.#registry.usedHashes()).has(hash)) return;
    this.#cache.retire(hash);
    if (this.#cache.isHeld(hash)) this.#retired.add(hash);
    else await this.#store.discard(hash);
  }

  /** Between finding a name and reading its files the name may have moved to other files: then it is looked up once more. */
  async #whileMoving<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof FilesGone)) throw error;
        const now = await this.#registry.get(error.info.name);
        if (now?.hash === error.info.hash)
          throw new GatewayError(
            'internal_error',
            `The stored files of ${now.name} are missing; register it again`,
            { cause: error },
          );
      }
    }
  }

  #checkOpen(): void {
    if (this.#isDisposed) throw new GatewayError('unavailable', 'The gateway is shutting down; try again');
  }
}

/** The store has no files for a registered adapter: it was replaced or removed meanwhile, or the folder was tampered with. */
class FilesGone extends Error {
  override readonly name = 'FilesGone';
  constructor(readonly info: AdapterInfo) {
    super(`no files for ${info.name} version ${info.version}`);
  }
}
