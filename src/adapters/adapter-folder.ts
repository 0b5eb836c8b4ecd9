// Reads a PEFT folder from disk, as the command line names it. What the files mean is not looked at here.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../errors.js';

/**
 * File name -> bytes of the folder's files whose names begin with `adapter_`; training state beside them can be many times larger.
 * Throws GatewayError invalid_value where the path cannot be read.
 */
export async function readAdapterFolder(path: string): Promise<Map<string, Uint8Array>> {
  try {
    const names = (await readdir(path)).filter((name) => name.startsWith('adapter_')).toSorted();
    const files = new Map<string, Uint8Array>();
    for (const name of names) files.set(name, await readFile(join(path, name)));
    return files;
  } catch (cause) {
    throw new GatewayError(
      'invalid_value',
      `Expected an adapter's folder at ${path}, but it cannot be read (${String(cause)}); give the folder that PEFT's save_pretrained wrote`,
      { param: path, cause },
    );
  }
}
