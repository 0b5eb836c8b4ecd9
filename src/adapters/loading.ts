// Loaded adapters: reading files into arrays, pinning them for requests, combining them, and letting files go that no row uses any more
// once the last pin has gone. Knows no tenants: it is given adapters that were found.

import { assert, GatewayError } from '../errors.js';
import type { AdapterBase } from './base.js';
import { checkCombinable, combinationHash, combineLoras, type CombinationPart } from './combination.js';
import { createPacer } from './pacer.js';
import { readPeft } from './peft.js';
import { type CacheUsage, createPinnedCache, type Pin } from './pinned-cache.js';
import type { AdapterService } from './protocol.js';
import type { Serial } from './serial.js';
import type { AdapterStore } from './store.js';
import type { AdapterInfo, PrefixAdapter, PromptEmbeddings, ServingAdapter } from './types.js';

export interface LoaderOptions {
  readonly base: AdapterBase;
  /** What loaded adapters may take in memory, in bytes; pinned ones may exceed it. */
  readonly cacheBytes: number;
  /** Runs virtual tokens through the base, giving their keys and values. */
  readonly runPrompt: (embeddings: PromptEmbeddings) => Promise<PrefixAdapter>;
}

export interface LoaderParts {
  readonly store: AdapterStore;
  /** Hashes that rows use. */
  readonly usedHashes: () => Promise<ReadonlySet<string>>;
  /** Changes of registry and store, one after the other. */
  readonly change: Serial;
  /** Whether rows can still be asked. */
  readonly isOpen: () => boolean;
}

/** A loaded adapter that stays so until release(), which is called exactly once. */
export interface Loaded {
  readonly adapter: ServingAdapter;
  release(): void;
}

export interface AdapterLoader {
  /** @param label its name in metrics. Throws FilesGone. */
  acquire(info: AdapterInfo, label: string): Promise<Loaded>;
  /** The parts are in order, each with its label. Throws FilesGone, unsupported_adapter, invalid_value. */
  acquireCombination(parts: readonly CombinationPart[], labels: readonly string[]): Promise<Loaded>;
  /** Forgets a hash that may have lost its last row: its files at once, or when the last pin goes. Runs within a change. */
  retire(hash: string): Promise<void>;
  resident(): ReturnType<AdapterService['resident']>;
  /** How the bytes for loaded adapters are used. */
  usage(): CacheUsage;
}

/** The store has no files for a registered adapter: its row has gone meanwhile, or the folder was tampered with. */
export class FilesGone extends Error {
  override readonly name = 'FilesGone';
  constructor(readonly info: AdapterInfo) {
    super(`no files for ${info.name} version ${info.version}`);
  }
}

export function createLoader(
  { base, cacheBytes, runPrompt }: LoaderOptions,
  { store, usedHashes, change, isOpen }: LoaderParts,
): AdapterLoader {
  const cache = createPinnedCache<ServingAdapter>(cacheBytes);
  /** Hashes without a row, whose files wait for the last pin to go. */
  const retired = new Set<string>();

  async function load(info: AdapterInfo): Promise<ServingAdapter> {
    const files = await store.read(info.hash);
    if (files === null) throw new FilesGone(info);
    const { content } = await readPeft(files, base);
    if (content.hash !== info.hash)
      throw new GatewayError(
        'internal_error',
        `The stored files of ${info.name} have changed (hash ${content.hash}, expected ${info.hash}); register it again`,
      );
    if (content.kind !== 'prompt') return content;
    const prefix = await runPrompt(content);
    assert(
      prefix.hash === info.hash,
      `runPrompt gave a prefix of hash ${prefix.hash}, expected ${info.hash}`,
    );
    return prefix;
  }

  const pin = (info: AdapterInfo, label: string) => cache.acquire(info.hash, label, () => load(info));

  async function combine(
    hash: string,
    parts: readonly CombinationPart[],
    labels: readonly string[],
  ): Promise<ServingAdapter> {
    const settled = await Promise.allSettled(parts.map(({ info }, index) => pin(info, labels[index]!)));
    try {
      const loras = settled.map((result, index) => {
        if (result.status === 'rejected') throw result.reason;
        const { info, scale } = parts[index]!;
        return { adapter: checkCombinable(info.name, result.value.value), scale };
      });
      return await combineLoras(base.architecture, hash, loras, createPacer());
    } finally {
      for (const [index, result] of settled.entries())
        if (result.status === 'fulfilled') release(result.value, parts[index]!.info.hash);
    }
  }

  function loaded(held: Pin<ServingAdapter>, hash: string): Loaded {
    return { adapter: held.value, release: () => release(held, hash) };
  }

  function release(held: Pin<ServingAdapter>, hash: string): void {
    held.release();
    if (!retired.has(hash) || cache.isHeld(hash) || !isOpen()) return;
    // Where this fails the hash stays retired, and the files are swept at the next start.
    change(() => retire(hash)).catch(() => retired.add(hash));
  }

  async function retire(hash: string): Promise<void> {
    retired.delete(hash);
    if ((await usedHashes()).has(hash)) return;
    cache.retire(hash);
    if (cache.isHeld(hash)) retired.add(hash);
    else await store.discard(hash);
  }

  return {
    async acquire(info, label) {
      return loaded(await pin(info, label), info.hash);
    },
    async acquireCombination(parts, labels) {
      const hash = combinationHash(parts);
      const label = parts.map(({ scale }, index) => `${labels[index]}*${scale}`).join('+');
      return loaded(await cache.acquire(hash, label, () => combine(hash, parts, labels)), hash);
    },
    retire,
    resident: () =>
      cache.rows().map(({ key, label, sizeBytes, pins }) => ({ name: label, hash: key, sizeBytes, pins })),
    usage: () => cache.usage(),
  };
}
