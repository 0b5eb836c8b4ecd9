// What is synced, and when: everything that a name promises is on the disk before the name is.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { openStore } from '../../src/adapters/store.js';
import { renameDurably, syncFile, syncFolder } from '../../src/model/durable-files.js';
import { importModel } from '../../src/model/import.js';
import { recordSyncs, SYNCS_ARE_HIDDEN as skip } from '../helpers/recorded-syncs.js';

const base = join(import.meta.dirname, '..', 'fixtures', 'bases', 'llama-tied');
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'durable-'));
});
afterEach(() => {
  mock.restoreAll();
  rmSync(folder, { recursive: true, force: true });
});

const named = (paths: readonly string[]): string[] => paths.map((path) => basename(path));

test('a folder: its files, then their names; a rename: the name', { skip }, async () => {
  const from = join(folder, 'from');
  mkdirSync(join(from, 'inner'), { recursive: true });
  writeFileSync(join(from, 'a'), 'a');
  writeFileSync(join(from, 'b'), 'b');
  const synced = await recordSyncs();
  await syncFolder(from);
  await renameDurably(from, join(folder, 'to'));
  await syncFile(join(folder, 'to', 'b'));
  assert.deepEqual(named(synced), ['a', 'b', 'from', basename(folder), 'b']);
  assert.equal(readFileSync(join(folder, 'to', 'a'), 'utf8'), 'a');
  await assert.rejects(syncFile(join(folder, 'absent')), { code: 'ENOENT' });
});

test('an adapter is synced before it has its name', { skip }, async () => {
  const store = await openStore(join(folder, 'adapters'));
  const hash = 'a'.repeat(64);
  const synced = await recordSyncs();
  await store.put(hash, { config: new Uint8Array(2), weights: new Uint8Array(3) });
  const [config, weights, temporary, ...rest] = named(synced);
  assert.deepEqual(
    [config, weights, rest],
    ['adapter_config.json', 'adapter_model.safetensors', ['adapters']],
  );
  assert.match(temporary!, /^\.tmp-/);
  assert.equal((await store.read(hash))?.size, 2);
});

test('a converted model is synced before it has its name', { skip }, async () => {
  const outputFolder = join(folder, 'artifact');
  const synced = await recordSyncs();
  await importModel({ sourcePath: base, outputFolder, weights: 'q4', name: 'tiny', source: 'tiny' });
  const names = named(synced);
  for (const name of ['weights.bin', 'manifest.json', 'tokenizer.json', 'chat_template.jinja'])
    assert.ok(names.indexOf(name) < names.length - 2 && names.includes(name), name);
  assert.match(names.at(-2)!, /^artifact\.partial-/);
  assert.equal(synced.at(-1), folder);
});
