// The files that an archive may contribute: checks names, counts and sizes as a reader meets them, and holds the accepted bytes.
// Nothing is written anywhere; a path is only ever a key of a Map.

import { invalidFile } from './invalid-file.js';

export interface ArchiveLimits {
  /** Files, without folders. */
  readonly maxFiles: number;
  /** Of all files together, inflated. */
  readonly maxTotalBytes: number;
  /** Of one file, inflated. */
  readonly maxFileBytes: number;
}

export class ArchiveFiles {
  readonly #archive: string;
  readonly #limits: ArchiveLimits;
  readonly #files = new Map<string, Uint8Array>();
  #totalBytes = 0;

  constructor(archive: string, limits: ArchiveLimits) {
    this.#archive = archive;
    this.#limits = limits;
  }

  /** The path as a key, or null for what an operating system adds and nobody wants. Refuses paths that lead out of a folder. */
  checkPath(name: string): string | null {
    if (name.includes('\0') || name.includes('\\'))
      throw this.refuse(name, 'has a NUL or a backslash in its name');
    if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) throw this.refuse(name, 'has an absolute path');
    const parts = name.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.includes('..')) throw this.refuse(name, 'leads out of the archive with `..`');
    const base = parts.at(-1);
    if (base === undefined || parts[0] === '__MACOSX' || base.startsWith('._') || base === '.DS_Store')
      return null;
    return parts.join('/');
  }

  /** Refuses a file that is there already or is one too many; how many bytes this one may have. */
  admit(path: string): number {
    const { maxFiles, maxFileBytes, maxTotalBytes } = this.#limits;
    if (this.#files.has(path)) throw this.refuse(path, 'is there twice');
    if (this.#files.size >= maxFiles)
      throw this.refuse(path, `is one too many: the archive may hold ${maxFiles} files`);
    return Math.min(maxFileBytes, maxTotalBytes - this.#totalBytes);
  }

  add(path: string, bytes: Uint8Array): void {
    if (bytes.length > this.admit(path)) throw this.tooLarge(path);
    this.#files.set(path, bytes);
    this.#totalBytes += bytes.length;
  }

  tooLarge(path: string): Error {
    const { maxFileBytes, maxTotalBytes } = this.#limits;
    return this.refuse(
      path,
      `is too large: a file may have ${maxFileBytes} bytes, all files together ${maxTotalBytes}`,
    );
  }

  refuse(entry: string, problem: string, cause?: unknown): Error {
    return invalidFile(this.#archive, `entry \`${entry.slice(0, 200)}\` ${problem}`, cause);
  }

  /** The files, without the folder in which all of them lie, if there is one. */
  finish(): Map<string, Uint8Array> {
    if (this.#files.size === 0) throw invalidFile(this.#archive, 'the archive holds no files');
    const tops = new Set([...this.#files.keys()].map((path) => path.split('/', 1)[0]!));
    const [top] = tops;
    if (tops.size > 1 || this.#files.has(top!)) return this.#files;
    return new Map([...this.#files].map(([path, bytes]) => [path.slice(top!.length + 1), bytes]));
  }
}
