// K/V of earlier prompts in blocks of tokens, as a tree: a block's key names its parent, and the root is the adapter's content
// hash, so nothing is ever shared between adapters or versions. Tokens are compared exactly, not by hash. Bounded by bytes, LRU.

import { LRUCache } from 'lru-cache';

export const BLOCK_TOKENS = 4;

interface CachedBlock {
  readonly id: number;
  readonly values: Float32Array;
}

export interface PrefixHit {
  readonly numTokens: number;
  /** One array a block of tokens, as KvCache.read gives it. */
  readonly blocks: readonly Float32Array[];
}

export class PrefixCache {
  readonly #maxBytes: number;
  readonly #blocks: LRUCache<string, CachedBlock>;
  /** Arrays of blocks that were dropped: used anew, as megabytes that come and go with every request would keep the collector busy. */
  readonly #spare: Float32Array[] = [];
  #nextId = 0;
  #queriedTokens = 0;
  #hitTokens = 0;

  /** `maxBytes` 0 turns it off. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#blocks = new LRUCache({
      maxSize: Math.max(1, maxBytes),
      sizeCalculation: ({ values }) => values.byteLength,
      dispose: ({ values }) => this.#spare.push(values),
    });
  }

  get queriedTokens(): number {
    return this.#queriedTokens;
  }

  get hitTokens(): number {
    return this.#hitTokens;
  }

  get sizeBytes(): number {
    return this.#blocks.calculatedSize;
  }

  /** The longest cached beginning of `tokens` in whole blocks, at most `maxTokens` long. Its arrays are valid until the next insert. */
  lookup(root: string, tokens: readonly number[], maxTokens: number): PrefixHit {
    const blocks: Float32Array[] = [];
    const keys: string[] = [];
    let parent = root;
    for (let start = 0; start + BLOCK_TOKENS <= maxTokens; start += BLOCK_TOKENS) {
      const key = blockKey(parent, tokens, start);
      const block = this.#blocks.get(key);
      if (block === undefined) break;
      blocks.push(block.values);
      keys.push(key);
      parent = String(block.id);
    }
    this.#touch(keys);
    this.#queriedTokens += tokens.length;
    this.#hitTokens += blocks.length * BLOCK_TOKENS;
    return { numTokens: blocks.length * BLOCK_TOKENS, blocks };
  }

  /**
   * Keeps the whole blocks of tokens [0, numTokens), as many as the cache can hold at once; `read` gives a block's K/V, in `spare`
   * where there is one, and is called only for those not yet kept.
   */
  insert(
    root: string,
    tokens: readonly number[],
    numTokens: number,
    read: (start: number, end: number, spare: Float32Array | undefined) => Float32Array,
  ): void {
    if (this.#maxBytes === 0) return;
    const keys: string[] = [];
    let parent = root;
    let blockBytes = 0;
    for (let start = 0; start + BLOCK_TOKENS <= numTokens; start += BLOCK_TOKENS) {
      if ((keys.length + 1) * blockBytes > this.#maxBytes) break;
      const key = blockKey(parent, tokens, start);
      let block = this.#blocks.get(key);
      if (block === undefined) {
        block = { id: this.#nextId++, values: read(start, start + BLOCK_TOKENS, this.#spare.pop()) };
        this.#blocks.set(key, block);
      }
      keys.push(key);
      blockBytes = block.values.byteLength;
      parent = String(block.id);
    }
    this.#touch(keys);
  }

  /** Marks a path as used from its end on, so that a text loses its end first: a block without those before it is of no use. */
  #touch(keys: readonly string[]): void {
    for (let i = keys.length - 1; i >= 0; i--) this.#blocks.get(keys[i]!);
  }
}

function blockKey(parent: string, tokens: readonly number[], start: number): string {
  return `${parent}/${tokens.slice(start, start + BLOCK_TOKENS).join(',')}`;
}
