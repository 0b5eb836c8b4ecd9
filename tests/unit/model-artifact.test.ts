// The artifact's folder: there whole or not at all, checked when it is opened, and read row by row.

import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Manifest } from '../../src/model/artifact.js';
import { openArtifact } from '../../src/model/artifact-reader.js';
import { ArtifactWriter } from '../../src/model/artifact-writer.js';
import { EmbeddingTable } from '../../src/model/embedding-table.js';
import { importModel } from '../../src/model/import.js';
import { loadMatrix } from '../../src/model/stored-matrix.js';
import { alteredBase, BASES, temporaryFolder } from '../helpers/model-folder.js';

const root = temporaryFolder(after);
const good = join(root, 'good');

function importTo(outputFolder: string, sourcePath = join(BASES, 'llama-tied')): Promise<Manifest> {
  return importModel({ sourcePath, outputFolder, weights: 'q4', name: 'tiny', source: 'test' });
}

before(async () => {
  await importTo(good);
});

describe('an artifact folder', () => {
  it('is not there after a failed import, nor is anything else', async () => {
    const parent = join(root, 'failed');
    const broken = alteredBase('llama-tied', join(root, 'broken'), (tensors) => {
      tensors.get('model.norm.weight')!.data[0] = NaN;
    });
    await assert.rejects(importTo(join(parent, 'out'), broken), { code: 'invalid_file' });
    assert.deepEqual(readdirSync(parent), []);
  });

  it('has its name only when all its files are written', async () => {
    const parent = join(root, 'stepwise');
    const writer = new ArtifactWriter(join(parent, 'out'));
    const blobs = [[Uint8Array.of(1, 2), Uint8Array.of(3)], [Uint8Array.of(4)]].map((pieces) =>
      writer.writeBlob(pieces),
    );
    assert.deepEqual(blobs, [
      { offset: 0, length: 3 },
      { offset: 4096, length: 1 },
    ]);
    assert.equal(existsSync(join(parent, 'out')), false);
    await writer.finish(openArtifact(good).manifest, new Map([['tokenizer.json', '{}']]));
    assert.deepEqual(readdirSync(parent), ['out']);
    assert.deepEqual(readdirSync(join(parent, 'out')).toSorted(), [
      'manifest.json',
      'tokenizer.json',
      'weights.bin',
    ]);
    const weights = readFileSync(join(parent, 'out', 'weights.bin'));
    assert.deepEqual([weights.length, [...weights.subarray(0, 4)], weights[4096]], [4097, [1, 2, 3, 0], 4]);
  });

  it('does not replace another, which was there before or came meanwhile', async () => {
    await assert.rejects(importTo(good), { code: 'invalid_value', message: /good exists already/ });
    const writer = new ArtifactWriter(join(root, 'raced'));
    await importTo(join(root, 'raced'));
    await assert.rejects(() => writer.finish({} as Manifest, new Map()), { code: 'invalid_value' });
    writer.abort();
    assert.equal(openArtifact(join(root, 'raced')).manifest.name, 'tiny');
    assert.deepEqual(
      readdirSync(root).filter((name) => name.startsWith('raced')),
      ['raced'],
    );
  });

  it('takes away what a crashed import left, but nothing that another is writing', async () => {
    const parent = join(root, 'crashed');
    for (const name of ['out.partial-old', 'out.partial-new', 'other.partial-old']) {
      mkdirSync(join(parent, name), { recursive: true });
      writeFileSync(join(parent, name, 'weights.bin'), 'x');
      if (name.endsWith('old')) utimesSync(join(parent, name, 'weights.bin'), 1e9, 1e9);
    }
    await importTo(join(parent, 'out'));
    assert.deepEqual(readdirSync(parent).toSorted(), ['other.partial-old', 'out', 'out.partial-new']);
  });
});

describe('openArtifact refuses', () => {
  /** A copy of the good artifact with its manifest changed. */
  function damaged(name: string, change: (manifest: Record<string, never>) => void): string {
    const folder = join(root, name);
    cpSync(good, folder, { recursive: true });
    const path = join(folder, 'manifest.json');
    const manifest = JSON.parse(readFileSync(path, 'utf8')) as Record<string, never>;
    change(manifest);
    writeFileSync(path, JSON.stringify(manifest));
    return folder;
  }
  function refuses(folder: string, code: string, message: RegExp): void {
    assert.throws(() => openArtifact(folder), { name: 'GatewayError', code, message });
  }
  type Loose = Record<string, Record<string, Record<string, unknown>>>;

  it('a folder without an artifact', () => {
    refuses(BASES, 'not_found', /manifest\.json does not exist/);
  });

  it('another version', () => {
    const folder = damaged('version', (manifest) => Object.assign(manifest, { formatVersion: 2 }));
    refuses(folder, 'invalid_file', /formatVersion/);
  });

  it('text that is not JSON', () => {
    const folder = damaged('json', () => undefined);
    writeFileSync(join(folder, 'manifest.json'), '{');
    refuses(folder, 'invalid_file', /manifest\.json is not valid JSON/);
  });

  it('a missing entry', () => {
    const folder = damaged('missing', (manifest) => delete (manifest as Loose)['matrices']!['embed_tokens']);
    refuses(folder, 'invalid_file', /`embed_tokens` is missing/);
  });

  it('another shape', () => {
    const folder = damaged('shape', (manifest) =>
      Object.assign((manifest as Loose)['matrices']!['embed_tokens']!, { rows: 319 }),
    );
    refuses(folder, 'invalid_file', /Expected `embed_tokens` to be \[320, 64\], got \[319, 64\]/);
  });

  it('a blob of the wrong length', () => {
    const folder = damaged('length', (manifest) =>
      Object.assign((manifest as Loose)['vectors']!['norm']!, { length: 252 }),
    );
    refuses(folder, 'invalid_file', /Expected the values of `norm` to have 256 bytes, got 252/);
  });

  it('weights that are cut short', () => {
    const folder = damaged('short', () => undefined);
    truncateSync(join(folder, 'weights.bin'), 8192);
    refuses(folder, 'invalid_file', /of weights\.bin, which has 8192/);
  });
});

describe('EmbeddingTable', () => {
  it('gives the rows of the matrix, in any order', () => {
    const artifact = openArtifact(good);
    const table = artifact.readEmbeddingTable();
    const matrix = artifact.readMatrixF32('embed_tokens');
    assert.deepEqual([table.vocabSize, table.hiddenSize], [320, 64]);
    const out = new Float32Array(4 * 64);
    table.lookup([319, 0, 7, 7], out);
    [319, 0, 7, 7].forEach((token, i) =>
      assert.deepEqual(out.subarray(i * 64, i * 64 + 64), matrix.subarray(token * 64, token * 64 + 64)),
    );
  });

  it('refuses ids outside the vocabulary and a short output', () => {
    const table = openArtifact(good).readEmbeddingTable();
    const out = new Float32Array(64);
    for (const token of [-1, 320, NaN])
      assert.throws(() => table.lookup([token], out), /is not in \[0, 320\)/);
    assert.throws(() => table.lookup([1, 2], out), /too short/);
  });
});

describe('loadMatrix', () => {
  const bytes = (values: readonly number[]) => Uint8Array.from(values);
  const floats = (values: readonly number[]) => new Uint8Array(Float32Array.from(values).buffer);

  /** Blobs numbered by their offset. */
  function loaded(entry: object, blobs: readonly Uint8Array[]): Float32Array {
    const matrix = loadMatrix(entry as Parameters<typeof loadMatrix>[0], ({ offset }) => blobs[offset]!);
    const out = new Float32Array(matrix.cols);
    new EmbeddingTable(matrix).lookup([1], out);
    return out;
  }
  const blob = (offset: number) => ({ offset, length: 0 });

  it('reads int8 in blocks of 16 with minima in blocks of 32, the last one short', () => {
    const codes = bytes([...Array<number>(48).fill(0), ...Array.from({ length: 48 }, (_, k) => 128 + k)]);
    const out = loaded(
      {
        kind: 'int8',
        rows: 2,
        cols: 40,
        blockSize: 16,
        data: blob(0),
        scales: blob(1),
        minima: { blockSize: 32, data: blob(2) },
      },
      [codes, floats([0, 0, 0, 1, 2, 4]), floats([0, 0, 0.5, 0.25])],
    );
    const expected = Array.from({ length: 40 }, (_, k) =>
      k < 16 ? k + 0.5 : k < 32 ? 2 * k + 0.5 : 4 * k + 0.25,
    );
    assert.deepEqual([...out], expected);
  });

  it('reads int4 with the even column in the low nibble', () => {
    const row = Array.from({ length: 16 }, (_, i) => i | ((15 - i) << 4));
    const out = loaded(
      { kind: 'int4', rows: 2, cols: 32, blockSize: 32, data: blob(0), scales: blob(1), minima: null },
      [bytes([...Array<number>(16).fill(0), ...row]), floats([9, 0.5])],
    );
    const expected = Array.from(
      { length: 32 },
      (_, k) => 0.5 * ((k % 2 === 0 ? k / 2 : 15 - (k - 1) / 2) - 8),
    );
    assert.deepEqual([...out], expected);
  });
});
