// An unfinished download: `NAME.part`, and `NAME.part.etag` that says of which content it is the beginning.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { absentAsNull } from './absent-file.js';

export class PartFile {
  readonly target: string;
  readonly path: string;
  readonly #etagPath: string;

  constructor(target: string) {
    this.target = target;
    this.path = `${target}.part`;
    this.#etagPath = `${this.path}.etag`;
  }

  /** Bytes on disk; 0 where there are none. */
  async size(): Promise<number> {
    const found = await absentAsNull(stat(this.path));
    return found?.size ?? 0;
  }

  async etag(): Promise<string | null> {
    return absentAsNull(readFile(this.#etagPath, 'utf8'));
  }

  /** Begins anew: an empty part of that content. */
  async begin(etag: string | null): Promise<void> {
    await this.discard();
    if (etag !== null) await writeFile(this.#etagPath, etag);
  }

  /** sha256 over what is there, to be continued. */
  async hash(): Promise<Hash> {
    const hash = createHash('sha256');
    await pipeline(createReadStream(this.path), hash, { end: false });
    return hash;
  }

  async discard(): Promise<void> {
    await rm(this.path, { force: true });
    await rm(this.#etagPath, { force: true });
  }

  /** Puts the whole, synced file in its place. */
  async complete(): Promise<void> {
    await rename(this.path, this.target);
    await rm(this.#etagPath, { force: true });
  }
}
