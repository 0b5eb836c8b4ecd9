// Copies what the runtime saved into a data file where every range is aligned: its packed buffers hold parts at offsets that depend
// on the buffer's address, and its f32 kernels read aligned, while it saves buffers one behind the other at any address.
// Packed 8-bit weights are left out: they are saved without their scales, which are packed in a later pass.

import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { assert } from '../errors.js';
import {
  decodeInitializers,
  externalData,
  withExternalData,
  type EncodedInitializer,
} from '../graph/onnx.js';
import { foldMinima } from './block-sums.js';
import type { PackedMatrix } from './projection-group.js';
import { isGraphConstant } from './serving-graph.js';

const ALIGNMENT = 4096;
const PACKED = 'prepacked_';

export interface SavedModel {
  readonly model: string;
  readonly data: string;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

/**
 * The constants of `saved`, referring to `target`, which is written. With `fold`, minima that could be put into the packed weights
 * (block-sums.ts) are left out.
 */
export function relocate(
  saved: SavedModel,
  target: string,
  packs: readonly PackedMatrix[],
  fold: boolean,
): EncodedInitializer[] {
  const files = { source: openSync(saved.data, 'r'), sink: openSync(target, 'w') };
  try {
    const constants = decodeInitializers(readFileSync(saved.model)).filter(
      ({ name }) => !isGraphConstant(name),
    );
    return new Relocation(files, basename(target), constants, packs).run(fold);
  } finally {
    closeSync(files.source);
    closeSync(files.sink);
  }
}

class Relocation {
  readonly #files: { readonly source: number; readonly sink: number };
  readonly #location: string;
  readonly #constants: readonly EncodedInitializer[];
  readonly #packs: ReadonlyMap<string, PackedMatrix>;
  readonly #entries: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly #folded = new Set<string>();
  #end = 0;

  constructor(
    files: { readonly source: number; readonly sink: number },
    location: string,
    constants: readonly EncodedInitializer[],
    packs: readonly PackedMatrix[],
  ) {
    this.#files = files;
    this.#location = location;
    this.#constants = constants;
    this.#packs = new Map(packs.map((pack) => [`${pack.name}.data`, pack]));
    this.#entries = new Map(constants.map((constant) => [constant.name, externalData(constant)]));
  }

  run(fold: boolean): EncodedInitializer[] {
    const moved = this.#constants.map((constant) => this.#move(constant, fold));
    return moved.filter(({ name }) => !this.#folded.has(name));
  }

  #move(constant: EncodedInitializer, fold: boolean): EncodedInitializer {
    const entries = this.#entries.get(constant.name)!;
    if (entries.size === 0) return constant;
    const pack = this.#packs.get(constant.name);
    const range = this.#range(constant.name);
    const moved = new Map([
      ['location', this.#location],
      ['offset', String(this.#copy(this.#read(range)))],
      ['length', String(range.length)],
    ]);
    for (const [key, value] of entries)
      if (key.startsWith(PACKED) && pack?.kind !== 'int8')
        moved.set(key, this.#movePacked(value, pack, fold));
    return withExternalData(constant, moved);
  }

  /** `kernel key|offset;length;...|offset;length;...`: one part for each buffer. */
  #movePacked(value: string, pack: PackedMatrix | undefined, fold: boolean): string {
    const [key, ...buffers] = value.split('|');
    const moved = buffers.map((buffer) => {
      const [offset, length, ...rest] = buffer.split(';');
      const bytes = this.#read({ offset: Number(offset), length: Number(length) });
      if (fold && pack !== undefined && this.#fold(pack, bytes)) this.#folded.add(`${pack.name}.minima`);
      return [this.#copy(bytes), length, ...rest].join(';');
    });
    return [key, ...moved].join('|');
  }

  #fold(pack: PackedMatrix, bytes: Uint8Array): boolean {
    const names = [`${pack.name}.scales`, `${pack.name}.minima`];
    const foldable = pack.kind === 'int4' && pack.minimaBlockSize === pack.blockSize;
    if (!foldable || !names.every((name) => this.#entries.get(name)?.has('length'))) return false;
    const [scales, minima] = names.map((name) => new Float32Array(this.#read(this.#range(name)).buffer));
    return foldMinima(bytes, pack, scales!, minima!);
  }

  #range(name: string): Range {
    const entries = this.#entries.get(name);
    assert(entries !== undefined && entries.has('length'), `${name} is not among the saved constants`);
    return { offset: Number(entries.get('offset') ?? 0), length: Number(entries.get('length')) };
  }

  #read({ offset, length }: Range): Uint8Array {
    const bytes = new Uint8Array(length);
    const count = readSync(this.#files.source, bytes, 0, length, offset);
    assert(count === length, `the saved data end before ${offset + length}`);
    return bytes;
  }

  #copy(bytes: Uint8Array): number {
    const at = Math.ceil(this.#end / ALIGNMENT) * ALIGNMENT;
    writeSync(this.#files.sink, bytes, 0, bytes.length, at);
    this.#end = at + bytes.length;
    return at;
  }
}
