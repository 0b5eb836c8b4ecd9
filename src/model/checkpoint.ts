// A checkpoint to import from: what it is (architecture, special tokens) and its tensors under the manifest's names, read on demand.
// Two kinds: a folder with safetensors (safetensors-checkpoint.ts) and a GGUF file (gguf-checkpoint.ts).

import { statSync } from 'node:fs';
import { GatewayError } from '../errors.js';
import type { SupportedGgmlType } from '../formats/gguf.js';
import type { Architecture } from './architecture.js';
import { openGgufCheckpoint } from './gguf-checkpoint.js';
import { openSafetensorsCheckpoint } from './safetensors-checkpoint.js';

/** Some rows as the source stores them. */
export type RawRows =
  | { readonly kind: 'f32'; readonly values: Float32Array }
  | { readonly kind: 'ggml'; readonly type: SupportedGgmlType; readonly bytes: Uint8Array };

export interface CheckpointTensor {
  /** [rows, cols] of a matrix, [n] of a vector: as the architecture wants it. */
  readonly shape: readonly number[];
  /** The tensor's name in the source, for messages. */
  readonly sourceName: string;
  /** Rows [start, end) of a matrix in their own order, or elements of a vector. Not yet checked for finite values. */
  readRows(start: number, end: number): RawRows;
}

export interface Checkpoint {
  /** For messages. */
  readonly file: string;
  readonly architecture: Architecture;
  /** All that tensorList(architecture) names, and no others. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | null;
  readonly addBos: boolean;
  /** The tokenizer's and the model's own small files: base name -> content. */
  readonly files: ReadonlyMap<string, string | Uint8Array>;
  /** sha256, hexadecimal, over the source's tensors by name: the same however they are split into files. */
  hash(): string;
  close(): void;
}

/** From a GGUF's metadata, the files that make its tokenizer: base name -> content. */
export type TokenizerFiles = (metadata: ReadonlyMap<string, unknown>) => Readonly<Record<string, string>>;

/**
 * Opens a folder with safetensors or a .gguf file and checks its description: every tensor there, none unknown, all shapes right.
 * `tokenizerFiles` is used for GGUF files alone. Close it after use.
 * Throws GatewayError not_found, unsupported_model, invalid_file.
 */
export function openCheckpoint(
  path: string,
  options: { readonly tokenizerFiles?: TokenizerFiles } = {},
): Checkpoint {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new GatewayError(
      'not_found',
      `${path} does not exist; name a folder with safetensors or a .gguf file`,
      {
        param: path,
      },
    );
  if (stat.isDirectory()) return openSafetensorsCheckpoint(path);
  if (/\.gguf$/i.test(path)) return openGgufCheckpoint(path, options.tokenizerFiles);
  throw new GatewayError(
    'unsupported_model',
    `${path}: Expected a folder with config.json and safetensors, or a .gguf file`,
    { param: path },
  );
}
