// Damaged zip and tar.gz files: the result is a map within the limits or a GatewayError, never another exception, never a hang.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { GatewayError } from '../../src/errors.js';
import { readArchive } from '../../src/formats/archive.js';
import { damaged, seededRandom, tarFile, zipFile } from '../helpers/format-files.js';

const LIMITS = { maxFiles: 3, maxTotalBytes: 4000, maxFileBytes: 3000 };
const CASES = 2000;
const json = new TextEncoder().encode('{"r":8}');
const weights = new Uint8Array(1500).map((_, i) => (i * 7) >> 2);

async function fuzz(
  seed: number,
  next: (random: () => number) => Uint8Array,
): Promise<{ read: number; refused: number }> {
  const random = seededRandom(seed);
  const outcomes = { read: 0, refused: 0 };
  for (let i = 0; i < CASES; i++) {
    try {
      const files = await readArchive(next(random), 'up.zip', LIMITS);
      const total = [...files.values()].reduce((sum, { length }) => sum + length, 0);
      assert.ok(files.size <= 3 && total <= 4000, `case ${i}: ${files.size} files, ${total} bytes`);
      assert.ok([...files.keys()].every((path) => !path.split('/').includes('..') && !path.startsWith('/')));
      outcomes.read += 1;
    } catch (error) {
      assert.ok(error instanceof GatewayError, `case ${i} of seed ${seed}: ${String(error)}`);
      assert.equal(error.code, 'invalid_file');
      outcomes.refused += 1;
    }
  }
  return outcomes;
}

test('damaged zip files', async () => {
  const file = zipFile([
    { name: 'top/', data: new Uint8Array(0) },
    { name: 'top/adapter_config.json', data: json },
    { name: 'top/adapter_model.safetensors', data: weights, stored: true },
  ]);
  const outcomes = await fuzz(1, (random) => damaged(file, random));
  assert.ok(outcomes.read > 20 && outcomes.refused > 1000, JSON.stringify(outcomes));
});

test('damaged zip directories, where the damage always matters', async () => {
  const file = zipFile([
    { name: 'a', data: json },
    { name: 'b', data: json },
  ]);
  const start = new DataView(file.buffer).getUint32(file.length - 6, true);
  const outcomes = await fuzz(2, (random) => {
    const copy = file.slice();
    for (let i = 0; i < 3; i++) copy[start + Math.floor(random() * (file.length - start))] = random() * 256;
    return copy;
  });
  assert.ok(outcomes.read > 20 && outcomes.refused > 1000, JSON.stringify(outcomes));
});

test('damaged gzip data', async () => {
  const file = new Uint8Array(gzipSync(await tarFile([{ name: 'top/a', data: json }, { name: 'top/b', data: weights }]))); // prettier-ignore
  const outcomes = await fuzz(3, (random) => damaged(file, random));
  assert.ok(outcomes.refused > 1000, JSON.stringify(outcomes));
});

test('damaged tar files in good gzip data, with the header checksums set right', async () => {
  const tar = await tarFile([
    { name: 'top/', type: 'directory' },
    { name: 'top/a', data: json },
    { name: `top/${'long'.repeat(40)}`, data: weights },
  ]);
  const outcomes = await fuzz(4, (random) => {
    const copy = damaged(tar, random).slice();
    if (random() < 0.8) setChecksums(copy);
    return new Uint8Array(gzipSync(copy, { level: 1 }));
  });
  assert.ok(outcomes.read > 100 && outcomes.refused > 500, JSON.stringify(outcomes));
});

/** The checksum of every block that looks like a header, so that damage to other fields gets past it. */
function setChecksums(tar: Uint8Array): void {
  for (let at = 0; at + 512 <= tar.length; at += 512) {
    if (Buffer.from(tar.subarray(at + 257, at + 262)).toString() !== 'ustar') continue;
    const block = tar.subarray(at, at + 512).fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  }
}
