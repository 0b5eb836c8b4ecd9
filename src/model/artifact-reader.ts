// Reads an artifact folder: its manifest, vectors, and matrices as plain f32 (for the trainer, for perplexity, as reference).
// The serving graph maps weights.bin by itself.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { assert, GatewayError } from '../errors.js';
import { type Blob, type Manifest, MANIFEST_FILE, WEIGHTS_FILE } from './artifact.js';
import { EmbeddingTable } from './embedding-table.js';
import { openFileSource } from './file-source.js';
import { parseManifest } from './manifest.js';
import { loadMatrix, type StoredMatrix, toFloats } from './stored-matrix.js';

export interface Artifact {
  readonly folder: string;
  readonly manifest: Manifest;
  /** A new array. `name` is one of manifest.vectors. */
  readVector(name: string): Float32Array;
  /** Held in memory as it is stored, for reading it by the row. `name` is one of manifest.matrices. */
  openMatrix(name: string): StoredMatrix;
  /** [rows, cols] dequantized, as a new array. `name` is one of manifest.matrices. */
  readMatrixF32(name: string): Float32Array;
  /** The token embedding, held in memory as it is stored. */
  readEmbeddingTable(): EmbeddingTable;
}

/**
 * Nothing stays open: each read opens weights.bin.
 * Throws GatewayError not_found where there is no artifact, invalid_file where it is damaged or of another version.
 */
export function openArtifact(folder: string): Artifact {
  const manifestPath = join(folder, MANIFEST_FILE);
  const weightsPath = join(folder, WEIGHTS_FILE);
  for (const path of [manifestPath, weightsPath])
    if (!existsSync(path))
      throw new GatewayError('not_found', `${path} does not exist: ${folder} is no converted model`, {
        param: folder,
      });
  const manifest = parseManifest(readFileSync(manifestPath, 'utf8'), folder, statSync(weightsPath).size);
  const readBlob = (blob: Blob) => readBytes(weightsPath, blob);
  const openMatrix = (name: string): StoredMatrix => {
    const entry = manifest.matrices[name];
    assert(entry !== undefined, `${folder} has no matrix ${name}`);
    return loadMatrix(entry, readBlob);
  };
  return {
    folder,
    manifest,
    readVector(name) {
      const blob = manifest.vectors[name];
      assert(blob !== undefined, `${folder} has no vector ${name}`);
      return toFloats(readBlob(blob));
    },
    openMatrix,
    readMatrixF32(name) {
      const matrix = openMatrix(name);
      const { rows, cols } = matrix;
      const out = new Float32Array(rows * cols);
      for (let row = 0; row < rows; row++) matrix.writeRow(row, out, row * cols);
      return out;
    },
    readEmbeddingTable: () => new EmbeddingTable(openMatrix('embed_tokens')),
  };
}

function readBytes(path: string, { offset, length }: Blob): Uint8Array {
  const source = openFileSource(path);
  try {
    return source.read(offset, length);
  } finally {
    source.close();
  }
}
