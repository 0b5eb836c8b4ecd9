// What is before the first block and after the last: embeddings, final norm and head, the base's own or those being trained.

import { assert } from '../errors.js';
import type { Artifact } from '../model/artifact-reader.js';
import type { HeadWeights } from './graphs/head-runner.js';
import type { MethodGradients, MethodInputs } from './types.js';

export interface ModelEnds extends HeadWeights {
  /** Writes [tokens.length, H]; ids must be in [0, V). */
  readonly lookup: (tokens: Int32Array, out: Float32Array) => void;
}

/** The head is held as f32; of a tied one the embeddings are read too. */
export function frozenEnds(artifact: Artifact): ModelEnds {
  const { tiedHead, hiddenSize } = artifact.manifest.architecture;
  const norm = artifact.readVector('norm');
  if (tiedHead) {
    const head = artifact.readMatrixF32('embed_tokens');
    return { norm, head, lookup: (tokens, out) => copyRows(head, hiddenSize, tokens, out) };
  }
  const table = artifact.readEmbeddingTable();
  return {
    norm,
    head: artifact.readMatrixF32('lm_head'),
    lookup: (tokens, out) => table.lookup(tokens, out),
  };
}

export function trainedEnds(ends: NonNullable<MethodInputs['ends']>, hiddenSize: number): ModelEnds {
  const { embedding, norm, head } = ends;
  return {
    norm,
    head: head ?? embedding,
    lookup: (tokens, out) => copyRows(embedding, hiddenSize, tokens, out),
  };
}

/** Writes the blocks' input [tokens.length, H] to `out`: a token -1 - v is virtual token v of [V, H]. */
export function embed(
  { lookup }: ModelEnds,
  tokens: Int32Array,
  virtualTokens: Float32Array | null,
  out: Float32Array,
): Float32Array {
  const hiddenSize = out.length / tokens.length;
  lookup(
    tokens.map((token) => Math.max(token, 0)),
    out,
  );
  tokens.forEach((token, i) => {
    if (token >= 0) return;
    assert(virtualTokens !== null, 'a virtual token without embeddings');
    out.set(row(virtualTokens, -1 - token, hiddenSize), i * hiddenSize);
  });
  return out;
}

/** Adds the rows of `gradient` [tokens.length, H] to the rows of the trained embeddings and virtual tokens they belong to. */
export function scatterEmbeddingGradient(
  gradient: Float32Array,
  tokens: Int32Array,
  { ends, virtualTokens }: Pick<MethodGradients, 'ends' | 'virtualTokens'>,
  hiddenSize: number,
): void {
  const embedding = ends?.embedding ?? null;
  tokens.forEach((token, i) => {
    const target = token >= 0 ? embedding : virtualTokens;
    if (target === null) return;
    const at = (token >= 0 ? token : -1 - token) * hiddenSize;
    for (let j = 0; j < hiddenSize; j++) target[at + j]! += gradient[i * hiddenSize + j]!;
  });
}

function copyRows(table: Float32Array, hiddenSize: number, tokens: Int32Array, out: Float32Array): void {
  tokens.forEach((token, i) => out.set(row(table, token, hiddenSize), i * hiddenSize));
}

function row(table: Float32Array, index: number, hiddenSize: number): Float32Array {
  assert((index + 1) * hiddenSize <= table.length, `row ${index} is not in the table of embeddings`);
  return table.subarray(index * hiddenSize, (index + 1) * hiddenSize);
}
