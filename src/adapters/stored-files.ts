// The files of a registered adapter, read from a data folder without serving it; a server may run on the folder meanwhile.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../errors.js';
import { parseReference } from './reference.js';
import { createRegistry } from './registry.js';
import { openRegistryDatabase } from './registry-tables.js';
import { openStore } from './store.js';
import type { AdapterInfo } from './types.js';

export interface StoredAdapter {
  readonly info: AdapterInfo;
  /** File name -> bytes. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export interface StoredAdapterOptions {
  readonly dataDir: string;
  readonly base: { readonly name: string; readonly baseHash: string };
  /** Whose adapter it is where the reference names no owner. */
  readonly tenant: string;
}

/** `reference` is `name`, `owner/name`, or either with `@3`. Throws model_not_found. */
export async function readStoredAdapter(
  reference: string,
  { dataDir, base, tenant }: StoredAdapterOptions,
): Promise<StoredAdapter> {
  const parsed = parseReference(reference);
  const path = join(dataDir, 'registry.db');
  if (parsed === null || !existsSync(path)) throw unknown(reference, `${dataDir} has no such adapter`);
  const owner = parsed.owner ?? tenant;
  const database = await openRegistryDatabase(path);
  try {
    const registry = createRegistry(database, base.baseHash);
    const info = await registry.find(owner, parsed.name, parsed.version);
    if (info === null) {
      const [other] = await registry.otherBases(owner, parsed.name);
      throw unknown(
        reference,
        other === undefined
          ? `${dataDir} has no such adapter of ${base.name}`
          : `it is registered for the base ${other}; name that with --model`,
      );
    }
    const files = await (await openStore(join(dataDir, 'adapters'))).read(info.hash);
    if (files === null) throw unknown(reference, 'its stored files are missing; register it again');
    return { info, files };
  } finally {
    await database.destroy();
  }
}

function unknown(reference: string, reason: string): GatewayError {
  return new GatewayError(
    'model_not_found',
    `The adapter ${JSON.stringify(reference)} does not exist: ${reason}`,
    {
      param: 'name',
    },
  );
}
