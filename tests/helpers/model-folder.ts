// Temporary folders with altered checkpoints, for tests of the import.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../../src/formats/safetensors.js';

export const BASES = join(import.meta.dirname, '..', 'fixtures', 'bases');

/** A new empty folder, removed after the tests of the file. */
export function temporaryFolder(after: (remove: () => void) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'model-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface PlainTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** All tensors of a safetensors file. */
export function readTensors(path: string): Map<string, PlainTensor> {
  const source = bytesSource(path, readFileSync(path));
  const { tensors } = readSafetensorsHeader(source);
  return new Map(
    [...tensors].map(([name, tensor]) => [
      name,
      { shape: tensor.shape, data: readTensorF32(source, tensor) },
    ]),
  );
}

/** A copy of a single-file base fixture with its tensors changed. */
export function alteredBase(
  base: string,
  folder: string,
  alter: (tensors: Map<string, PlainTensor>) => void,
): string {
  cpSync(join(BASES, base), folder, { recursive: true });
  const path = join(folder, 'model.safetensors');
  const tensors = readTensors(path);
  alter(tensors);
  writeFileSync(path, writeSafetensors(tensors));
  return folder;
}
