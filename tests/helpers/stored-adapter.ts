// An adapter in a data folder, as a server would have registered it.
import { join } from 'node:path';
import { adapterFiles } from '../../src/adapters/adapter-files.js';
import { adapterBase } from '../../src/adapters/base.js';
import { readPeft } from '../../src/adapters/peft.js';
import { createRegistry } from '../../src/adapters/registry.js';
import { openRegistryDatabase } from '../../src/adapters/registry-tables.js';
import { openStore } from '../../src/adapters/store.js';
import type { Artifact } from '../../src/model/artifact-reader.js';

export async function storeAdapter(
  dataDir: string,
  artifact: Artifact,
  { owner, name }: { readonly owner: string; readonly name: string },
  files: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const { facts } = await readPeft(files, adapterBase(artifact));
  await (await openStore(join(dataDir, 'adapters'))).put(facts.hash, adapterFiles(files));
  const database = await openRegistryDatabase(join(dataDir, 'registry.db'));
  const { baseHash, name: base } = artifact.manifest;
  const limit = { numKept: 10, exempt: new Set<number>() };
  await createRegistry(database, baseHash).add({ ...facts, name, owner, base, createdAt: 1 }, limit);
  await database.destroy();
}
