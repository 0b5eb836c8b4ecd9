// Reads an uploaded .zip or .tar.gz into a map of its files. By content, not by name; in memory, nothing is unpacked to disk.

import { ArchiveFiles, type ArchiveLimits } from './archive-files.js';
import { invalidFile } from './invalid-file.js';
import { readTarGz } from './tar-reader.js';
import { readZip } from './zip-reader.js';

export type { ArchiveLimits } from './archive-files.js';

/**
 * Path -> bytes of every file, without the top folder where all files share one. Folders and what macOS adds are left out.
 * Throws GatewayError invalid_file, naming archive and entry, for anything else than a zip or tar.gz; damaged data; paths that
 * are absolute or lead out; links and devices; encrypted entries; names that come twice; and whatever passes the limits, which
 * hold while inflating, whatever sizes the archive declares.
 */
export async function readArchive(
  bytes: Uint8Array,
  filename: string,
  limits: ArchiveLimits,
): Promise<Map<string, Uint8Array>> {
  const files = new ArchiveFiles(filename, limits);
  if (startsWith(bytes, [0x1f, 0x8b])) await readTarGz(bytes, filename, files, limits);
  else if (startsWith(bytes, [0x50, 0x4b])) await readZip(bytes, filename, files, 2 * limits.maxFiles + 100);
  else throw invalidFile(filename, 'Expected a .zip or .tar.gz archive; its first bytes are of neither');
  return files.finish();
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}
