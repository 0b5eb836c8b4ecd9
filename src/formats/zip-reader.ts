// The files of a .zip in memory: yauzl reads the directory, zlib the data. An entry's data are given to gunzip in a gzip frame
// made from its directory record, so that bound, checksum and length are checked natively and off the event loop's thread.

import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type Entry, fromBuffer, type ZipFile } from 'yauzl';
import { type ArchiveFiles } from './archive-files.js';
import { invalidFile } from './invalid-file.js';
import { collectBytes, isTooLarge, outputBound, reasonOf } from './stream-bytes.js';

const inflate = promisify(gunzip);
const STORED = 0;
const DEFLATED = 8;
/** Length of the largest stored block of deflate. */
const MAX_STORED_BLOCK = 65535;
/** Deflate, no flags, no time, unknown system. */
const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255);

/** Adds the archive's files. At most `maxEntries` entries of any kind are looked at. Throws GatewayError invalid_file. */
export async function readZip(
  bytes: Uint8Array,
  archive: string,
  files: ArchiveFiles,
  maxEntries: number,
): Promise<void> {
  const { zip, entries } = await listEntries(bytes, archive, maxEntries);
  let compressed = 0;
  for (const entry of entries) {
    const path = files.checkPath(entry.fileName);
    if (isFolder(entry, files) || path === null) continue;
    const room = files.admit(path);
    compressed += entry.compressedSize;
    if (compressed > bytes.length) throw files.refuse(path, 'overlaps another entry');
    files.add(path, await entryBytes(zip, entry, room, files, path));
  }
}

async function listEntries(
  bytes: Uint8Array,
  archive: string,
  maxEntries: number,
): Promise<{ zip: ZipFile; entries: Entry[] }> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Promise((resolve, reject) => {
    const refuse = (cause: unknown) =>
      reject(invalidFile(archive, `the zip cannot be read: ${reasonOf(cause)}`, cause));
    fromBuffer(buffer, { lazyEntries: true, validateEntrySizes: true }, (error, zip) => {
      if (error !== null) return refuse(error);
      const entries: Entry[] = [];
      zip.on('entry', (entry: Entry) => {
        entries.push(entry);
        if (entries.length > maxEntries) refuse(new Error(`it has more than ${maxEntries} entries`));
        else zip.readEntry();
      });
      zip.once('end', () => resolve({ zip, entries }));
      zip.on('error', refuse);
      zip.readEntry();
    });
  });
}

/** Refuses what is neither file nor folder: links and devices, which Unix marks in the upper half of the attributes. */
function isFolder(entry: Entry, files: ArchiveFiles): boolean {
  const kind = (entry.externalFileAttributes >>> 16) & 0o170000;
  if (kind !== 0 && kind !== 0o100000 && kind !== 0o040000)
    throw files.refuse(entry.fileName, 'is a link or a device; only files and folders are read');
  return entry.fileName.endsWith('/') || kind === 0o040000;
}

async function entryBytes(
  zip: ZipFile,
  entry: Entry,
  room: number,
  files: ArchiveFiles,
  path: string,
): Promise<Uint8Array> {
  if (entry.isEncrypted()) throw files.refuse(path, 'is encrypted');
  if (entry.compressionMethod !== STORED && entry.compressionMethod !== DEFLATED)
    throw files.refuse(path, `has compression method ${entry.compressionMethod}; use deflate`);
  if (entry.uncompressedSize > room) throw files.tooLarge(path);
  try {
    const frame = gzipFrame(entry, await rawBytes(zip, entry));
    const inflated = await inflate(frame, { maxOutputLength: outputBound(room) });
    return collectBytes([inflated]);
  } catch (cause) {
    if (isTooLarge(cause)) throw files.tooLarge(path);
    throw files.refuse(path, `is damaged: ${reasonOf(cause)}`, cause);
  }
}

/** The data as they lie in the archive. */
async function rawBytes(zip: ZipFile, entry: Entry): Promise<Uint8Array> {
  const options = entry.isCompressed()
    ? { decompress: false, decrypt: null, start: null, end: null }
    : { decompress: null, decrypt: null, start: null, end: null };
  const stream = await new Promise<AsyncIterable<Uint8Array>>((resolve, reject) => {
    zip.openReadStream(entry, options, (error, opened) => {
      if (error === null) resolve(opened);
      else reject(error);
    });
  });
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return collectBytes(chunks);
}

function gzipFrame(entry: Entry, raw: Uint8Array): Uint8Array {
  const body = entry.compressionMethod === STORED ? storedBlocks(raw) : [raw];
  const trailer = new DataView(new ArrayBuffer(8));
  trailer.setUint32(0, entry.crc32, true);
  trailer.setUint32(4, entry.uncompressedSize, true);
  return collectBytes([GZIP_HEADER, ...body, new Uint8Array(trailer.buffer)]);
}

/** Bytes as deflate without compression: blocks of (final bit, length, its complement, bytes). */
function storedBlocks(raw: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  do {
    const block = raw.subarray(at, at + MAX_STORED_BLOCK);
    at += block.length;
    const head = new DataView(new ArrayBuffer(5));
    head.setUint8(0, at === raw.length ? 1 : 0);
    head.setUint16(1, block.length, true);
    head.setUint16(3, ~block.length, true);
    parts.push(new Uint8Array(head.buffer), block);
  } while (at < raw.length);
  return parts;
}
