// Copies what the runtime saved into a data file where every range is aligned: its packed buffers hold parts at offsets that depend
// on the buffer's address, and its f32 kernels read aligned, while it saves buffers one behind the other at any address.
// Packed 8-bit weights are left out: they are saved without their scales, which are packed in a later pass.

import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import {
  decodeInitializers,
  externalData,
  withExternalData,
  type EncodedInitializer,
} from '../graph/onnx.js';
import type { Manifest } from './artifact.js';
import { packLayout } from './packed-weights.js';
import { isGraphConstant } from './serving-graph.js';

const ALIGNMENT = 4096;
const PACKED = 'prepacked_';

/** The constants of `saved.model`, referring to `target`, which is written. */
export function relocate(
  saved: { readonly model: string; readonly data: string },
  target: string,
  manifest: Manifest,
): EncodedInitializer[] {
  const packs = [...packLayout(manifest).values()].flat().map(({ matrix }) => matrix);
  const loose = new Set(packs.filter(({ kind }) => kind === 'int8').map(({ name }) => `${name}.data`));
  const source = openSync(saved.data, 'r');
  const sink = openSync(target, 'w');
  let end = 0;
  const copy = (offset: number, length: number): number => {
    const at = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    const bytes = new Uint8Array(length);
    readSync(source, bytes, 0, length, offset);
    writeSync(sink, bytes, 0, length, at);
    end = at + length;
    return at;
  };
  try {
    return decodeInitializers(readFileSync(saved.model))
      .filter(({ name }) => !isGraphConstant(name))
      .map((constant) => move(constant, !loose.has(constant.name), basename(target), copy));
  } finally {
    closeSync(source);
    closeSync(sink);
  }
}

function move(
  constant: EncodedInitializer,
  keepPacked: boolean,
  location: string,
  copy: (offset: number, length: number) => number,
): EncodedInitializer {
  const entries = externalData(constant);
  if (entries.size === 0) return constant;
  const moved = new Map([['location', location]]);
  const length = Number(entries.get('length'));
  moved.set('offset', String(copy(Number(entries.get('offset') ?? 0), length)));
  moved.set('length', String(length));
  for (const [key, value] of entries)
    if (keepPacked && key.startsWith(PACKED)) moved.set(key, movePacked(value, copy));
  return withExternalData(constant, moved);
}

/** `kernel key|offset;length;...|offset;length;...`: one part for each buffer. */
function movePacked(value: string, copy: (offset: number, length: number) => number): string {
  const [key, ...buffers] = value.split('|');
  const moved = buffers.map((buffer) => {
    const [offset, length, ...rest] = buffer.split(';');
    return [copy(Number(offset), Number(length)), length, ...rest].join(';');
  });
  return [key, ...moved].join('|');
}
