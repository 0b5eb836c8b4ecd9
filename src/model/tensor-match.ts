// Holds the tensors that a source has against those that its architecture needs, and hashes them.
// Used by both kinds of checkpoint; knows neither's format.

import { createHash } from 'node:crypto';
import { GatewayError } from '../errors.js';
import type { ByteSource } from '../formats/byte-source.js';
import type { TensorSpec } from './tensor-list.js';

/** Where a tensor's bytes are. */
export interface StoredTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly source: ByteSource;
  readonly offset: number;
  readonly length: number;
}

const HASH_CHUNK_BYTES = 2 ** 24;

/**
 * Every expected tensor is there in its shape, and nothing else but what `isIgnored` accepts.
 * Throws GatewayError invalid_file (missing, mis-shaped: both shapes) or unsupported_model (unknown), naming the tensor.
 */
export function matchTensors(
  file: string,
  stored: ReadonlyMap<string, StoredTensor>,
  expected: readonly TensorSpec[],
  isIgnored: (sourceName: string) => boolean,
): void {
  const known = new Set<string>();
  for (const { name, shape } of expected) {
    known.add(name);
    const tensor = stored.get(name);
    if (tensor === undefined)
      throw refuse('invalid_file', file, `tensor \`${name}\` of shape [${shape.join(', ')}] is missing`);
    if (tensor.shape.join() !== shape.join())
      throw refuse(
        'invalid_file',
        file,
        `Expected tensor \`${name}\` to have shape [${shape.join(', ')}], got [${tensor.shape.join(', ')}]`,
      );
  }
  for (const [name, { shape }] of stored)
    if (!known.has(name) && !isIgnored(name))
      throw refuse(
        'unsupported_model',
        file,
        `tensor \`${name}\` of shape [${shape.join(', ')}] is no part of this architecture and would be left out`,
      );
}

/** sha256 over name, type, shape and bytes of each tensor, in the order of the names. Reads every byte once, in pieces. */
export function hashTensors(stored: ReadonlyMap<string, StoredTensor>): string {
  const hash = createHash('sha256');
  for (const name of [...stored.keys()].toSorted()) {
    const { dtype, shape, source, offset, length } = stored.get(name)!;
    hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
    for (let done = 0; done < length; done += HASH_CHUNK_BYTES)
      hash.update(source.read(offset + done, Math.min(HASH_CHUNK_BYTES, length - done)));
  }
  return hash.digest('hex');
}

function refuse(code: 'invalid_file' | 'unsupported_model', file: string, problem: string): GatewayError {
  return new GatewayError(code, `${file}: ${problem}`, { param: file });
}
