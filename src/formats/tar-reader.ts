// The files of a .tar.gz in memory: zlib inflates it under a bound and off the event loop's thread, tar-stream takes it apart.

import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { assert, GatewayError } from '../errors.js';
import { type ArchiveFiles, type ArchiveLimits } from './archive-files.js';
import { invalidFile } from './invalid-file.js';
import { collectBytes, isTooLarge, outputBound, reasonOf } from './stream-bytes.js';

const inflate = promisify(gunzip);
/** Headers (one block, with extended attributes three or more), padding, folders. */
const OVERHEAD_PER_FILE = 4096;
const OVERHEAD = 65536;

/** Adds the archive's files. Throws GatewayError invalid_file. */
export async function readTarGz(
  bytes: Uint8Array,
  archive: string,
  files: ArchiveFiles,
  limits: ArchiveLimits,
): Promise<void> {
  const tar = await inflateTar(bytes, archive, limits);
  const extractor = extract();
  extractor.end(tar);
  try {
    for await (const entry of extractor) await readEntry(entry, files);
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    throw invalidFile(archive, `the tar cannot be read: ${reasonOf(cause)}`, cause);
  }
}

async function inflateTar(bytes: Uint8Array, archive: string, limits: ArchiveLimits): Promise<Uint8Array> {
  const bound = limits.maxTotalBytes + limits.maxFiles * OVERHEAD_PER_FILE + OVERHEAD;
  try {
    return await inflate(bytes, { maxOutputLength: outputBound(bound) });
  } catch (cause) {
    const problem = isTooLarge(cause)
      ? `it inflates to more than ${bound} bytes; all files together may have ${limits.maxTotalBytes}`
      : `the gzip data are damaged: ${reasonOf(cause)}`;
    throw invalidFile(archive, problem, cause);
  }
}

/** What is read of tar-stream's entries; their type is null where the tar's type letter is unknown. */
interface TarEntry extends AsyncIterable<unknown> {
  readonly header: { readonly name: string; readonly type: string | null };
}

async function readEntry(entry: TarEntry, files: ArchiveFiles): Promise<void> {
  const { name, type } = entry.header;
  const path = files.checkPath(name);
  if (type !== 'file' && type !== 'contiguous-file' && type !== 'directory')
    throw files.refuse(name, `is a ${type ?? 'thing of unknown type'}; only files and folders are read`);
  // A folder's stream is never read: where its header declares a size, tar-stream neither fills nor ends it.
  if (type === 'directory') return;
  const room = path === null ? 0 : files.admit(path);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of entry) {
    assert(chunk instanceof Uint8Array, 'tar-stream yields bytes');
    size += chunk.length;
    if (path === null) continue;
    if (size > room) throw files.tooLarge(path);
    chunks.push(chunk);
  }
  if (path !== null) files.add(path, collectBytes(chunks));
}
