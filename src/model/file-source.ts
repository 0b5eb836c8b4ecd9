// A ByteSource over an open file: each read is one positioned read into fresh memory, so nothing of the file is kept.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { GatewayError } from '../errors.js';
import { type ByteSource, checkRange } from '../formats/byte-source.js';

export interface FileSource extends ByteSource {
  close(): void;
}

/** Throws GatewayError not_found where the file cannot be opened. */
export function openFileSource(path: string): FileSource {
  const fd = openForReading(path);
  return {
    name: basename(path),
    size: fstatSync(fd).size,
    read(offset, length) {
      checkRange(this, offset, length);
      const bytes = new Uint8Array(length);
      readFully(fd, bytes, offset, path);
      return bytes;
    },
    close: () => closeSync(fd),
  };
}

function openForReading(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new GatewayError('not_found', `${path} cannot be opened: ${(cause as Error).message}`, {
      param: path,
      cause,
    });
  }
}

/** One read returns at most 2 GiB, and less where the file ends. */
function readFully(fd: number, bytes: Uint8Array, offset: number, path: string): void {
  for (let done = 0; done < bytes.length;) {
    const count = readSync(fd, bytes, done, Math.min(bytes.length - done, 2 ** 30), offset + done);
    if (count === 0)
      throw new GatewayError('invalid_file', `${path} became shorter while it was read`, { param: path });
    done += count;
  }
}
