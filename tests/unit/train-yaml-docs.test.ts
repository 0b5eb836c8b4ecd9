// docs/training.md has the tables that it is made from.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { format, resolveConfig } from 'prettier';
import { withTables } from '../../src/cli/yaml/keys-docs.js';

const path = join(import.meta.dirname, '..', '..', 'docs', 'training.md');

test('docs/training.md is what the tables say (node --import tsx scripts/configuration-docs.mjs writes it)', async () => {
  const page = readFileSync(path, 'utf8');
  const wanted = await format(withTables(page), { ...(await resolveConfig(path)), filepath: path });
  assert.equal(page, wanted);
});

test('a page without a part is a fault', () => {
  assert.throws(() => withTables('# Training\n'), /docs\/training\.md has no part supported/);
});
