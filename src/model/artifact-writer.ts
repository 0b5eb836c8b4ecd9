// Writes an artifact folder so that it is there whole or not at all: everything goes into a sibling folder, is synced, and is renamed.
// It knows files and blobs; what they hold is import.ts's business.

import { randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { assert, GatewayError } from '../errors.js';
import { type Blob, type Manifest, MANIFEST_FILE, WEIGHTS_FILE } from './artifact.js';
import { renameDurably, syncFolder } from './durable-files.js';

const BLOB_ALIGNMENT = 4096;
/** A temporary folder that nobody has written to for this long was left by a crash. */
const ABANDONED_AFTER_MS = 3_600_000;

export class ArtifactWriter {
  readonly #outputFolder: string;
  readonly #folder: string;
  readonly #weights: number;
  #isOpen = true;
  #end = 0;

  /** Throws GatewayError invalid_value where outputFolder exists already. */
  constructor(outputFolder: string) {
    this.#outputFolder = resolve(outputFolder);
    if (existsSync(this.#outputFolder)) throw alreadyThere(this.#outputFolder);
    mkdirSync(dirname(this.#outputFolder), { recursive: true });
    removeAbandoned(this.#outputFolder);
    this.#folder = `${this.#outputFolder}.partial-${randomUUID()}`;
    mkdirSync(this.#folder);
    this.#weights = openSync(join(this.#folder, WEIGHTS_FILE), 'w');
  }

  /** Appends the pieces as one aligned blob of weights.bin. */
  writeBlob(pieces: Iterable<Uint8Array>): Blob {
    const offset = Math.ceil(this.#end / BLOB_ALIGNMENT) * BLOB_ALIGNMENT;
    let end = offset;
    for (const piece of pieces) {
      writeAll(this.#weights, piece, end);
      end += piece.byteLength;
    }
    this.#end = end;
    return { offset, length: end - offset };
  }

  /** Writes the other files, syncs all, and gives the folder its name. Rejects with invalid_value where another took it meanwhile. */
  async finish(manifest: Manifest, files: ReadonlyMap<string, string | Uint8Array>): Promise<void> {
    this.#close();
    for (const [name, content] of files) {
      assert(name === basename(name) && name !== MANIFEST_FILE && name !== WEIGHTS_FILE, `${name} as a file`);
      writeFileSync(join(this.#folder, name), content);
    }
    writeFileSync(join(this.#folder, MANIFEST_FILE), `${JSON.stringify(manifest, null, 1)}\n`);
    await syncFolder(this.#folder);
    await this.#rename();
  }

  /** Removes what is not finished; nothing after finish(). */
  abort(): void {
    this.#close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #close(): void {
    if (this.#isOpen) closeSync(this.#weights);
    this.#isOpen = false;
  }

  /** A rename does not replace a folder with files in it: of two imports at the same time, the second fails here. */
  async #rename(): Promise<void> {
    try {
      await renameDurably(this.#folder, this.#outputFolder);
    } catch (error) {
      throw existsSync(this.#outputFolder) ? alreadyThere(this.#outputFolder) : error;
    }
  }
}

function alreadyThere(folder: string): GatewayError {
  return new GatewayError('invalid_value', `${folder} exists already; remove it or name another folder`, {
    param: folder,
  });
}

function removeAbandoned(outputFolder: string): void {
  const parent = dirname(outputFolder);
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(`${basename(outputFolder)}.partial-`)) continue;
    const folder = join(parent, name);
    const weights = statSync(join(folder, WEIGHTS_FILE), { throwIfNoEntry: false });
    const lastWrite = (weights ?? statSync(folder)).mtimeMs;
    if (Date.now() - lastWrite > ABANDONED_AFTER_MS) rmSync(folder, { recursive: true, force: true });
  }
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.byteLength;)
    done += writeSync(fd, bytes, done, Math.min(bytes.byteLength - done, 2 ** 30), position + done);
}
