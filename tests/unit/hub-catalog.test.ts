// The catalog as it ships, and what a Hub id may look like.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findInCatalog, readCatalog } from '../../src/model/catalog.js';
import { formatHubReference, parseHubReference } from '../../src/model/hub-reference.js';
import { OPTIONS } from '../../src/config.js';

test('the catalog is well-formed and has the bases it promises', () => {
  assert.deepEqual(
    readCatalog().map(({ name, licence }) => `${name} ${licence}`),
    [
      'SmolLM2-135M-Instruct apache-2.0',
      'SmolLM2-360M-Instruct apache-2.0',
      'SmolLM2-1.7B-Instruct apache-2.0',
      'Qwen2.5-0.5B-Instruct apache-2.0',
      'Qwen2.5-1.5B-Instruct apache-2.0',
      'Qwen2.5-Coder-0.5B-Instruct apache-2.0',
      'Qwen2.5-Coder-1.5B-Instruct apache-2.0',
      'Qwen3-0.6B apache-2.0',
      'Qwen3-1.7B apache-2.0',
      'Llama-3.2-1B-Instruct llama3.2',
    ],
  );
});

test('the default model is in the catalog, with the same bytes from both sources', () => {
  const entry = findInCatalog(readCatalog(), OPTIONS.model.fallback.toUpperCase());
  assert(entry);
  assert.deepEqual(
    entry.sources.map(({ kind, sha256 }) => [kind, sha256]),
    [
      ['hub', 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'],
      ['pip', 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'],
    ],
  );
});

test('Hub ids are read and written back', () => {
  for (const [text, repo, revision, file] of [
    ['owner/name', 'owner/name', 'main', null],
    ['owner/name@v1.0', 'owner/name', 'v1.0', null],
    ['owner/name@refs/pr/1', 'owner/name', 'refs/pr/1', null],
    ['owner/name:a-Q4_K.gguf', 'owner/name', 'main', 'a-Q4_K.gguf'],
    ['o-w/n.a@abc:sub/a.gguf', 'o-w/n.a', 'abc', 'sub/a.gguf'],
  ] as const) {
    assert.deepEqual(parseHubReference(text), { repo, revision, file });
    assert.equal(formatHubReference({ repo, revision, file }), text);
  }
});

test('what could climb out of a folder, or is a path, is no Hub id', () => {
  for (const text of [
    'name',
    './owner/name',
    '/owner/name',
    '../name',
    'owner/..',
    'owner/name@..',
    'owner/name:../a.gguf',
    'owner/name:/a.gguf',
    'owner/name:a.bin',
    'a/b/c',
    'owner/name@',
    'owner/name:',
    '',
  ])
    assert.equal(parseHubReference(text), null, text);
});
