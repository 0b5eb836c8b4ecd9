// From a converted base to the constants of its serving graph: matrices of a group stacked where their storage agrees, minima
// transposed, f32 matrices transposed, everything appended to one file that the graph refers to as external data.

import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { assert } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { DataType } from '../graph/onnx.js';
import { projectionPath } from './architecture.js';
import { WEIGHTS_FILE, type Blob, type Manifest, type MatrixEntry } from './artifact.js';
import { GROUP_NAMES, GROUPS, type PackedMatrix } from './projection-group.js';
import { fitsNative, nativeLayout } from './native-layout.js';
import type { GraphWeights } from './serving-graph.js';
import { toFloats } from './stored-matrix.js';

const ALIGNMENT = 64;

interface Constant {
  readonly name: string;
  readonly type: DataType;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly length: number;
}

/** The stacked matrices of one graph name, and the entries they are made of. */
interface Pack {
  readonly matrix: PackedMatrix;
  readonly entries: readonly MatrixEntry[];
}

/** The names of a base's packs: derivable from the manifest alone, without reading weights. */
export function packLayout(manifest: Manifest): ReadonlyMap<string, readonly Pack[]> {
  const layout = new Map<string, readonly Pack[]>();
  for (let layer = 0; layer < manifest.architecture.numLayers; layer++) {
    for (const group of GROUP_NAMES) {
      const entries = GROUPS[group].map((projection) =>
        matrix(manifest, `layers.${layer}.${projectionPath(projection)}`),
      );
      layout.set(`layers.${layer}.${group}`, stack(`layers.${layer}.${group}`, entries));
    }
  }
  const head = manifest.architecture.tiedHead ? 'embed_tokens' : 'lm_head';
  return layout.set('lm_head', stack('lm_head', [matrix(manifest, head)]));
}

/**
 * Appends every constant to `path`; the returned weights declare them with that file's base name. With `native`, matrices that the
 * native kernels can read are laid out for them.
 */
export function packWeights(
  artifactFolder: string,
  manifest: Manifest,
  path: string,
  native: boolean,
): GraphWeights {
  const source = openSync(join(artifactFolder, WEIGHTS_FILE), 'r');
  const target = openSync(path, 'w');
  try {
    const writer = new ConstantWriter(source, target);
    const layout = new Map(
      [...packLayout(manifest)].map(([name, packs]) => [
        name,
        packs.map((pack) => writer.pack(pack, native)),
      ]),
    );
    writer.indicators([...layout.values()].flat());
    writer.vectors(manifest);
    return graphWeights(
      layout,
      native,
      (graph) => {
        for (const { name, type, shape, offset, length } of writer.constants)
          graph.external(name, type, shape, { location: basename(path), offset, length });
      },
      new Set(writer.constants.map(({ name }) => name)),
    );
  } finally {
    closeSync(source);
    closeSync(target);
  }
}

/** Shape of a quantized pack's codes: [rows, blocks, bytes a block]. */
function dataShape(pack: PackedMatrix): readonly number[] {
  const blockBytes = pack.kind === 'int4' ? pack.blockSize / 2 : pack.blockSize;
  return [pack.rows, Math.ceil(pack.cols / pack.blockSize), blockBytes];
}

export function graphWeights(
  layout: ReadonlyMap<string, readonly PackedMatrix[]>,
  native: boolean,
  declare: (graph: GraphBuilder) => void,
  names: ReadonlySet<string>,
): GraphWeights {
  return {
    packs: (name) => layout.get(name)!,
    native,
    hasVector: (name) => names.has(name),
    declare,
  };
}

function matrix(manifest: Manifest, name: string): MatrixEntry {
  const entry = manifest.matrices[name];
  assert(entry !== undefined, `the manifest has no matrix ${name}`);
  return entry;
}

/** Neighbours of one storage kind become one pack. */
function stack(name: string, entries: readonly MatrixEntry[]): Pack[] {
  const runs: MatrixEntry[][] = [];
  for (const entry of entries) {
    const run = runs.at(-1);
    if (run !== undefined && storage(run[0]!) === storage(entry)) run.push(entry);
    else runs.push([entry]);
  }
  return runs.map((run, i) => {
    const first = run[0]!;
    const matrixName = `${name}.p${i}`;
    const rows = run.reduce((sum, entry) => sum + entry.rows, 0);
    const minima = run.map((entry) => (entry.kind === 'f32' ? null : entry.minima)).find((m) => m !== null);
    return {
      entries: run,
      matrix: {
        name: matrixName,
        kind: first.kind,
        rows,
        cols: first.cols,
        blockSize: first.kind === 'f32' ? 0 : first.blockSize,
        minimaBlockSize: minima?.blockSize ?? null,
        native: null,
      },
    };
  });
}

function storage(entry: MatrixEntry): string {
  if (entry.kind === 'f32') return 'f32';
  return `${entry.kind}/${entry.blockSize}/${entry.minima?.blockSize ?? 'any'}`;
}

class ConstantWriter {
  readonly constants: Constant[] = [];
  readonly #source: number;
  readonly #target: number;
  #offset = 0;

  constructor(source: number, target: number) {
    this.#source = source;
    this.#target = target;
  }

  /** Writes a pack; returns how it is stored. */
  pack(pack: Pack, native: boolean): PackedMatrix {
    const { matrix: packed } = pack;
    if (native && fitsNative(packed)) return this.#native(pack);
    this.#plain(pack);
    return packed;
  }

  #native({ matrix: packed, entries }: Pack): PackedMatrix {
    const quantized = entries.filter((entry) => entry.kind !== 'f32');
    const joined = (bytesOf: (entry: (typeof quantized)[number]) => Uint8Array): Uint8Array =>
      Buffer.concat(quantized.map(bytesOf));
    const minimaOf = ({ minima, scales }: (typeof quantized)[number]): Uint8Array =>
      minima === null ? new Uint8Array(scales.length) : this.#read(minima.data);
    const { packed: bytes, half } = nativeLayout(packed, {
      codes: joined((entry) => this.#read(entry.data)),
      scales: toFloats(joined((entry) => this.#read(entry.scales))),
      minima: packed.minimaBlockSize === null ? null : toFloats(joined(minimaOf)),
    });
    this.#add(`${packed.name}.packed`, 'u8', [bytes.length], bytes);
    return { ...packed, native: { half } };
  }

  #plain({ matrix: packed, entries }: Pack): void {
    const { name, rows, cols } = packed;
    if (packed.kind === 'f32') {
      const parts = entries.map((entry) => ({ data: this.#floats(entry.data), rows: entry.rows }));
      this.#add(`${name}.data`, 'f32', [cols, rows], transpose(parts, cols));
      return;
    }
    this.#add(`${name}.data`, 'u8', dataShape(packed), ...entries.map((entry) => this.#read(entry.data)));
    const quantized = entries.filter((entry) => entry.kind !== 'f32');
    this.#add(
      `${name}.scales`,
      'f32',
      [rows * Math.ceil(cols / packed.blockSize)],
      ...quantized.map((entry) => this.#read(entry.scales)),
    );
    if (packed.minimaBlockSize === null) return;
    const width = Math.ceil(cols / packed.minimaBlockSize);
    const minima = quantized.map((entry) => ({
      rows: entry.rows,
      data: entry.minima === null ? new Float32Array(entry.rows * width) : this.#floats(entry.minima.data),
    }));
    this.#add(`${name}.minima`, 'f32', [width, rows], transpose(minima, width));
  }

  /** The 0/1 matrices [cols, blocks] that sum x over blocks. */
  indicators(packs: readonly PackedMatrix[]): void {
    const written = new Set<string>();
    for (const packed of packs) {
      if (packed.minimaBlockSize === null || packed.native !== null) continue;
      const { cols, minimaBlockSize: size } = packed;
      const name = `block_indicator.${cols}.${size}`;
      if (written.has(name)) continue;
      written.add(name);
      const width = Math.ceil(cols / size);
      const data = new Float32Array(cols * width);
      for (let k = 0; k < cols; k++) data[k * width + Math.floor(k / size)] = 1;
      this.#add(name, 'f32', [cols, width], data);
    }
  }

  vectors(manifest: Manifest): void {
    for (const [name, blob] of Object.entries(manifest.vectors))
      if (!name.endsWith('.bias')) this.#add(name, 'f32', [blob.length / 4], this.#read(blob));
    for (let layer = 0; layer < manifest.architecture.numLayers; layer++)
      for (const group of GROUP_NAMES) this.#bias(manifest, layer, group);
  }

  /** A group's biases side by side; zeros for a projection without one. */
  #bias(manifest: Manifest, layer: number, group: (typeof GROUP_NAMES)[number]): void {
    const paths = GROUPS[group].map((projection) => `layers.${layer}.${projectionPath(projection)}`);
    if (!paths.some((path) => manifest.vectors[`${path}.bias`])) return;
    const parts = paths.map((path) => {
      const blob = manifest.vectors[`${path}.bias`];
      return blob ? this.#read(blob) : new Uint8Array(matrix(manifest, path).rows * 4);
    });
    const size = parts.reduce((sum, part) => sum + part.length / 4, 0);
    this.#add(`layers.${layer}.${group}.bias`, 'f32', [size], ...parts);
  }

  #add(
    name: string,
    type: DataType,
    shape: readonly number[],
    ...parts: readonly (Uint8Array | Float32Array)[]
  ): void {
    const offset = Math.ceil(this.#offset / ALIGNMENT) * ALIGNMENT;
    this.#offset = offset;
    for (const part of parts) {
      writeSync(this.#target, part, 0, part.byteLength, this.#offset);
      this.#offset += part.byteLength;
    }
    this.constants.push({ name, type, shape, offset, length: this.#offset - offset });
  }

  #read(blob: Blob): Uint8Array {
    const bytes = new Uint8Array(blob.length);
    const count = readSync(this.#source, bytes, 0, blob.length, blob.offset);
    assert(count === blob.length, `${WEIGHTS_FILE} ends before ${blob.offset + blob.length}`);
    return bytes;
  }

  #floats(blob: Blob): Float32Array {
    return new Float32Array(this.#read(blob).buffer);
  }
}

/** Row blocks [rows, cols] one under the other -> [cols, total rows]. */
function transpose(
  parts: readonly { readonly data: Float32Array; readonly rows: number }[],
  cols: number,
): Float32Array {
  const total = parts.reduce((sum, { rows }) => sum + rows, 0);
  const out = new Float32Array(total * cols);
  let first = 0;
  for (const { data, rows } of parts) {
    for (let row = 0; row < rows; row++)
      for (let col = 0; col < cols; col++) out[col * total + first + row] = data[row * cols + col]!;
    first += rows;
  }
  return out;
}
