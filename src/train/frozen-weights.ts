// The base's weights as the trainer holds them: read from the artifact once, as f32 or bfloat16, as the codes that are served, or as NF4. Codes are
// dequantized inside the graphs, where they are used (graphs/dequantize.ts).

import { join } from 'node:path';
import { assert } from '../errors.js';
import { encodeFloats } from '../formats/float-encoding.js';
import type { Artifact } from '../model/artifact-reader.js';
import { type MatrixEntry, WEIGHTS_FILE } from '../model/artifact.js';
import { type Projection, PROJECTIONS, projectionPath } from '../model/architecture.js';
import { openFileSource } from '../model/file-source.js';
import { toFloats } from '../model/stored-matrix.js';
import { expandAbsmax, quantizeNf4 } from './nf4.js';
import type { FrozenWeights, Precision } from './options.js';
import type { InputData } from './types.js';

/** How a matrix [out, in] is held; all that a graph has to know of it. */
export type MatrixForm =
  | { readonly kind: 'f32' }
  | { readonly kind: 'bf16' }
  | { readonly kind: 'nf4' }
  | {
      /** W[n,k] = scale[n,b] * (code[n,k] - zero) + minimum[n,m]. */
      readonly kind: 'codes';
      readonly zero: number;
      readonly blockSize: number;
      /** Of the minima; null is none. */
      readonly minimaBlockSize: number | null;
    };

export interface FrozenMatrix {
  readonly form: MatrixForm;
  /** By the suffix of the graph input: '' the values or codes, '.scales', '.minima', '.absmax'. */
  readonly parts: ReadonlyMap<string, InputData>;
}

/** One block's own weights. Vectors by input name: `norm.input_layernorm`, `base_bias.q_proj`, ... */
export interface FrozenBlock {
  readonly matrices: Readonly<Record<Projection, FrozenMatrix>>;
  readonly vectors: ReadonlyMap<string, Float32Array>;
}

/** A block may be read when it is asked for: what it holds is to be let go of before the next one. */
export interface FrozenBlocks {
  at(layer: number): FrozenBlock;
}

/** All in memory. */
export function loadFrozenBlocks(
  artifact: Artifact,
  weights: FrozenWeights,
  precision: Precision,
): FrozenBlocks {
  const { numLayers } = artifact.manifest.architecture;
  const blocks = Array.from({ length: numLayers }, (_, layer) =>
    loadBlock(artifact, layer, weights, precision),
  );
  return { at: (layer) => blocks[layer]! };
}

/** The weights that serve, one block in memory at a time. */
export function streamServedBlocks(artifact: Artifact, precision: Precision): FrozenBlocks {
  let held: { readonly layer: number; readonly block: FrozenBlock } | null = null;
  return {
    at(layer) {
      if (held?.layer !== layer) held = { layer, block: loadBlock(artifact, layer, 'int4', precision) };
      return held.block;
    },
  };
}

function loadBlock(
  artifact: Artifact,
  layer: number,
  weights: FrozenWeights,
  precision: Precision,
): FrozenBlock {
  const path = `layers.${layer}`;
  const vectors = new Map<string, Float32Array>();
  const take = (input: string, name: string): void => {
    if (artifact.manifest.vectors[name] !== undefined) vectors.set(input, artifact.readVector(name));
  };
  for (const norm of ['input_layernorm', 'post_attention_layernorm']) take(`norm.${norm}`, `${path}.${norm}`);
  for (const norm of ['q_norm', 'k_norm']) take(`norm.${norm}`, `${path}.self_attn.${norm}`);
  const matrices = PROJECTIONS.map((projection) => {
    const name = `${path}.${projectionPath(projection)}`;
    take(`base_bias.${projection}`, `${name}.bias`);
    return [projection, loadFrozenMatrix(artifact, name, weights, precision)] as const;
  });
  return { matrices: Object.fromEntries(matrices) as Record<Projection, FrozenMatrix>, vectors };
}

/** `name` is one of manifest.matrices. A matrix that is not served quantized has the precision's own form as `int4`. */
export function loadFrozenMatrix(
  artifact: Artifact,
  name: string,
  weights: FrozenWeights,
  precision: Precision,
): FrozenMatrix {
  const entry = artifact.manifest.matrices[name];
  assert(entry !== undefined, `the artifact has no matrix ${name}`);
  if (weights === 'int4' && entry.kind !== 'f32') return loadCodes(artifact, entry);
  const values = artifact.readMatrixF32(name);
  if (weights !== 'nf4') {
    const held = precision === 'bf16' ? encodeFloats('BF16', values) : values;
    return { form: { kind: precision }, parts: new Map([['', held]]) };
  }
  const matrix = quantizeNf4(values, [entry.rows, entry.cols]);
  const parts = new Map<string, InputData>([
    ['', matrix.codes],
    ['.absmax', expandAbsmax(matrix)],
  ]);
  return { form: { kind: 'nf4' }, parts };
}

function loadCodes(
  artifact: Artifact,
  entry: MatrixEntry & { readonly kind: 'int4' | 'int8' },
): FrozenMatrix {
  const source = openFileSource(join(artifact.folder, WEIGHTS_FILE));
  try {
    const bytes = ({ offset, length }: { offset: number; length: number }) => source.read(offset, length);
    const floats = (blob: { offset: number; length: number }) => toFloats(bytes(blob));
    const stored = bytes(entry.data);
    const parts = new Map<string, InputData>([
      ['', entry.kind === 'int4' ? unpackNibbles(stored) : stored],
      ['.scales', floats(entry.scales)],
    ]);
    if (entry.minima !== null) parts.set('.minima', floats(entry.minima.data));
    const form = {
      kind: 'codes',
      zero: entry.kind === 'int4' ? 8 : 128,
      blockSize: entry.blockSize,
      minimaBlockSize: entry.minima?.blockSize ?? null,
    } as const;
    return { form, parts };
  } finally {
    source.close();
  }
}

/** One code a byte; the low nibble comes first. */
function unpackNibbles(packed: Uint8Array): Uint8Array {
  const codes = new Uint8Array(packed.length * 2);
  packed.forEach((pair, i) => {
    codes[2 * i] = pair & 15;
    codes[2 * i + 1] = pair >> 4;
  });
  return codes;
}
