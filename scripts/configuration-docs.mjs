// Writes what is made from tables: docs/configuration.md, and the tables of docs/training.md.
// `node --import tsx scripts/configuration-docs.mjs`
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { configurationDocs } from '../src/cli/configuration-docs.ts';
import { withTables } from '../src/cli/yaml/keys-docs.ts';

const docs = join(import.meta.dirname, '..', 'docs');

async function write(name, text) {
  const target = join(docs, name);
  writeFileSync(target, await format(text, { ...(await resolveConfig(target)), filepath: target }));
}

await write('configuration.md', configurationDocs());
await write('training.md', withTables(readFileSync(join(docs, 'training.md'), 'utf8')));
