// The two files that make up a PEFT adapter: picking them out of what came, refusing pickles, and the hash that identifies them.
// Other files of a folder (README.md, training state) say nothing about the adapter and are neither read nor stored.

import { createHash } from 'node:crypto';
import { invalidAdapter, unsupportedAdapter } from './refusal.js';
import type { Pacer } from './pacer.js';

export const CONFIG_FILE = 'adapter_config.json';
export const WEIGHTS_FILE = 'adapter_model.safetensors';

export interface AdapterFiles {
  readonly config: Uint8Array;
  readonly weights: Uint8Array;
}

/** Picks the two files. Throws invalid_adapter (missing) and unsupported_adapter (pickle, by name or by content). */
export function adapterFiles(files: ReadonlyMap<string, Uint8Array>): AdapterFiles {
  for (const name of files.keys())
    if (/^adapter_model.*\.(bin|pt|pth|pkl|ckpt)$/.test(name)) throw pickle(name);
  const config = files.get(CONFIG_FILE);
  const weights = files.get(WEIGHTS_FILE);
  const found = [...files.keys()].toSorted().join(', ') || 'none';
  for (const [name, bytes] of [
    [CONFIG_FILE, config],
    [WEIGHTS_FILE, weights],
  ] as const)
    if (bytes === undefined)
      throw invalidAdapter(
        `Expected the file ${name}, got ${found}; send the folder that PEFT's save_pretrained wrote`,
        name,
      );
  if (looksPickled(weights!)) throw pickle(WEIGHTS_FILE);
  return { config: config!, weights: weights! };
}

/** PyTorch's zip container, its legacy pickle, or a bare pickle of protocol 2 to 5. */
function looksPickled(bytes: Uint8Array): boolean {
  const zip = bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 0x03 && bytes[3] === 0x04;
  // A safetensors file with these first two bytes would also need a header whose JSON begins at byte 8.
  const protocol = bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5 && bytes[8] !== 0x7b;
  return zip || protocol;
}

function pickle(name: string) {
  return unsupportedAdapter(
    `${name} is a pickle, which can run code when it is opened; save the adapter with safe_serialization=True to get ${WEIGHTS_FILE}`,
    name,
  );
}

const HASH_CHUNK = 1 << 18;

/** sha256 (hex) over name, length and bytes of the two files, in the order of their names. */
export async function hashAdapter(files: AdapterFiles, pacer: Pacer): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, bytes] of [
    [CONFIG_FILE, files.config],
    [WEIGHTS_FILE, files.weights],
  ] as const) {
    hash.update(`${name}\0${bytes.length}\0`);
    for (let at = 0; at < bytes.length; at += HASH_CHUNK) {
      hash.update(bytes.subarray(at, at + HASH_CHUNK));
      await pacer.spent(HASH_CHUNK);
    }
  }
  return hash.digest('hex');
}
