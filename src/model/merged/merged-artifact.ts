// A second artifact from a base's: the matrices that an adapter changes are rounded anew, the rest is copied. What a changed row is,
// the caller says; which storage it gets follows from the form. Its base hash is the base's own: adapters never meet it.

import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { assert } from '../../errors.js';
import { projectionPath, type Architecture, type Projection } from '../architecture.js';
import { WEIGHTS_FILE, type Blob, type Manifest, type MatrixEntry } from '../artifact.js';
import type { Artifact } from '../artifact-reader.js';
import { ArtifactWriter } from '../artifact-writer.js';
import { openFileSource, type FileSource } from '../file-source.js';
import { GROUP_NAMES, GROUPS, type GroupName } from '../projection-group.js';
import { BLOCK_SIZE, quantizeInt8, type QuantizedRows } from '../quantization.js';
import { toFloats } from '../stored-matrix.js';
import { roundCompensated, type Int4Grid } from './compensated-rounding.js';
import type { SpanFactor } from './input-statistics.js';

/** How the changed matrices are stored. */
export type RoundedForm = 'int4' | 'int8';

export interface MergeSource {
  /** Replaces row n, the `in` values at weights[at ...], by the changed row; null where the weight stays. */
  rowMerger(
    layer: number,
    projection: Projection,
    cols: number,
  ): ((row: number, weights: Float32Array, at: number) => void) | null;
  /** The bias [out] with the change; null where there is none. */
  bias(layer: number, projection: Projection, own: Float32Array | null): Float32Array | null;
  /** How the inputs of a group vary (`layers.0.qkv`); asked for `int4` alone. */
  factors(group: string): readonly SpanFactor[];
}

/** Throws GatewayError invalid_value where the folder exists. */
export async function writeMergedArtifact(
  base: Artifact,
  form: RoundedForm,
  source: MergeSource,
  outputFolder: string,
): Promise<void> {
  const writer = new ArtifactWriter(outputFolder);
  const weights = openFileSource(join(base.folder, WEIGHTS_FILE));
  try {
    await writer.finish(await new Merge(base, form, source, writer, weights).run(), new Map());
  } finally {
    weights.close();
    writer.abort();
  }
}

class Merge {
  readonly #base: Artifact;
  readonly #form: RoundedForm;
  readonly #source: MergeSource;
  readonly #writer: ArtifactWriter;
  readonly #weights: FileSource;

  constructor(
    base: Artifact,
    form: RoundedForm,
    source: MergeSource,
    writer: ArtifactWriter,
    weights: FileSource,
  ) {
    this.#base = base;
    this.#form = form;
    this.#source = source;
    this.#writer = writer;
    this.#weights = weights;
  }

  async run(): Promise<Manifest> {
    const { manifest } = this.#base;
    const head = manifest.architecture.tiedHead ? ['embed_tokens'] : ['embed_tokens', 'lm_head'];
    const matrices: Record<string, MatrixEntry> = {};
    for (const name of head) matrices[name] = this.#copied(manifest.matrices[name]!);
    for (let layer = 0; layer < manifest.architecture.numLayers; layer++)
      for (const group of GROUP_NAMES) {
        Object.assign(matrices, this.#group(layer, group));
        // A turn of the event loop, so that a message to stop arrives.
        await setImmediate();
      }
    return { ...manifest, matrices, ...this.#vectors() };
  }

  /** A group that is changed in part is rounded whole, so that it stays one product. */
  #group(layer: number, group: GroupName): Record<string, MatrixEntry> {
    const named = GROUPS[group].map((projection) => {
      const name = `layers.${layer}.${projectionPath(projection)}`;
      const entry = this.#base.manifest.matrices[name]!;
      return { name, entry, merger: this.#source.rowMerger(layer, projection, entry.cols) };
    });
    const isChanged = named.some(({ merger }) => merger !== null);
    return Object.fromEntries(
      named.map(({ name, entry, merger }) => {
        if (!isChanged) return [name, this.#copied(entry)];
        const values = this.#base.readMatrixF32(name);
        if (merger !== null) for (let row = 0; row < entry.rows; row++) merger(row, values, row * entry.cols);
        return [name, this.#rounded(values, entry, `layers.${layer}.${group}`)];
      }),
    );
  }

  #rounded(values: Float32Array, entry: MatrixEntry, group: string): MatrixEntry {
    const { rows, cols } = entry;
    const rounded =
      this.#form === 'int8'
        ? quantizeInt8(values, rows, cols)
        : roundCompensated(values, rows, cols, this.#source.factors(group), this.#gridOf(entry));
    return this.#write(rounded, rows, cols);
  }

  #write({ kind, blockSize, data, scales, minima }: QuantizedRows, rows: number, cols: number): MatrixEntry {
    const writer = this.#writer;
    return {
      kind,
      rows,
      cols,
      blockSize,
      data: writer.writeBlob([data]),
      scales: writer.writeBlob([bytesOf(scales)]),
      minima:
        minima === null
          ? null
          : { blockSize: minima.blockSize, data: writer.writeBlob([bytesOf(minima.data)]) },
    };
  }

  /** The grid of a matrix that has the blocks which rounding makes. */
  #gridOf(entry: MatrixEntry): Int4Grid | null {
    if (entry.kind !== 'int4' || entry.blockSize !== BLOCK_SIZE) return null;
    if (entry.minima !== null && entry.minima.blockSize !== BLOCK_SIZE) return null;
    const scales = toFloats(this.#read(entry.scales));
    const minima =
      entry.minima === null ? new Float32Array(scales.length) : toFloats(this.#read(entry.minima.data));
    return { scales, minima };
  }

  #copied(entry: MatrixEntry): MatrixEntry {
    const copy = (blob: Blob): Blob => this.#writer.writeBlob([this.#read(blob)]);
    if (entry.kind === 'f32') return { ...entry, data: copy(entry.data) };
    const { data, scales, minima } = entry;
    return {
      ...entry,
      data: copy(data),
      scales: copy(scales),
      minima: minima === null ? null : { ...minima, data: copy(minima.data) },
    };
  }

  #vectors(): Pick<Manifest, 'vectors' | 'architecture'> {
    const { manifest } = this.#base;
    const vectors: Record<string, Blob> = {};
    for (const [name, blob] of Object.entries(manifest.vectors))
      if (!/proj\.bias$/.test(name)) vectors[name] = this.#writer.writeBlob([this.#read(blob)]);
    const biases = this.#biases();
    const architecture = withBiases(manifest.architecture, biases);
    for (const { layer, projection, name, values } of biases) {
      if (!hasBias(architecture, projection)) continue;
      const rows = manifest.matrices[`layers.${layer}.${projectionPath(projection)}`]!.rows;
      vectors[name] = this.#writer.writeBlob([bytesOf(values ?? new Float32Array(rows))]);
    }
    return { vectors, architecture };
  }

  #biases(): readonly Bias[] {
    const { manifest } = this.#base;
    return Array.from({ length: manifest.architecture.numLayers }, (_, layer) =>
      GROUP_NAMES.flatMap((group) => [...GROUPS[group]]).map((projection): Bias => {
        const name = `layers.${layer}.${projectionPath(projection)}.bias`;
        const own = manifest.vectors[name] === undefined ? null : this.#base.readVector(name);
        return { layer, projection, name, values: this.#source.bias(layer, projection, own) };
      }),
    ).flat();
  }

  #read({ offset, length }: Blob): Uint8Array {
    return this.#weights.read(offset, length);
  }
}

interface Bias {
  readonly layer: number;
  readonly projection: Projection;
  readonly name: string;
  readonly values: Float32Array | null;
}

const BIAS_FLAGS = {
  q_proj: 'qkvBias',
  k_proj: 'qkvBias',
  v_proj: 'qkvBias',
  o_proj: 'outputBias',
  gate_proj: 'mlpBias',
  up_proj: 'mlpBias',
  down_proj: 'mlpBias',
} as const satisfies Record<Projection, keyof Architecture>;

function hasBias(arch: Architecture, projection: Projection): boolean {
  return arch[BIAS_FLAGS[projection]];
}

/** A bias that one block has, all blocks have: zeros where the adapter adds none. */
function withBiases(arch: Architecture, biases: readonly Bias[]): Architecture {
  const added = biases.flatMap(({ projection, values }) => (values === null ? [] : [BIAS_FLAGS[projection]]));
  assert(
    added.every((flag) => flag in arch),
    'an unknown bias',
  );
  return { ...arch, ...Object.fromEntries(added.map((flag) => [flag, true])) };
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
