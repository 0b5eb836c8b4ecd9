// A model as a folder that transformers reads: config.json, weights in one safetensors file or in several behind an index, and the
// small files that are handed in.

import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { assert } from '../errors.js';
import { encodedBytes } from '../formats/float-encoding.js';
import { safetensorsHeader } from '../formats/safetensors.js';
import type { Architecture } from './architecture.js';
import { configFromArchitecture } from './config-writer.js';
import type { DenseModel, DenseTensor } from './dense-model.js';
import { syncFolder } from './durable-files.js';
import { llama3Scaling } from './llama3-scaling.js';
import { makeNewPath } from './new-path.js';
import { safetensorsName } from './tensor-list.js';
import { type ExportProgress, writeTensorFile } from './tensor-stream.js';

export interface SafetensorsExport extends ExportProgress {
  /** Of all tensors. */
  readonly type: 'F32' | 'F16' | 'BF16';
  /** The tokenizer's files and the like: base name -> content. */
  readonly files: ReadonlyMap<string, string | Uint8Array>;
  /** A file is closed before it has more; a single larger tensor has one of its own. */
  readonly maxShardBytes?: number;
}

/** As transformers names them. */
const TORCH_TYPES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;
/** As transformers' save_pretrained. */
const MAX_SHARD_BYTES = 5e9;
const METADATA = { format: 'pt' };

/** Writes a new folder, whole or not at all. Throws GatewayError unsupported_model, invalid_value. */
export async function exportSafetensors(
  model: DenseModel,
  folder: string,
  options: SafetensorsExport,
): Promise<void> {
  const { type, maxShardBytes = MAX_SHARD_BYTES } = options;
  const config = {
    ...configFromArchitecture(spelledOut(model.architecture), model),
    torch_dtype: TORCH_TYPES[type],
  };
  const shards = shardsOf(model.tensors, type, maxShardBytes);
  const files = new Map(options.files).set('config.json', jsonText(config));
  if (shards.length > 1) files.set('model.safetensors.index.json', jsonText(indexOf(shards, type)));
  const size = shards
    .flatMap(({ tensors }) => tensors)
    .reduce((sum, { shape }) => sum + bytes(shape, type), 0);
  await makeNewPath(folder, size, async (temporary) => {
    mkdirSync(temporary);
    for (const shard of shards) await writeShard(temporary, shard, options);
    for (const [name, content] of files) {
      assert(name === basename(name), `${name} as a file`);
      writeFileSync(join(temporary, name), content);
    }
    await syncFolder(temporary);
  });
}

interface Shard {
  readonly file: string;
  readonly tensors: readonly DenseTensor[];
}

function shardsOf(tensors: readonly DenseTensor[], type: SafetensorsExport['type'], limit: number): Shard[] {
  const groups: DenseTensor[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    const own = bytes(tensor.shape, type);
    if (size > 0 && size + own > limit) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1)!.push(tensor);
    size += own;
  }
  if (groups.length === 1) return [{ file: 'model.safetensors', tensors }];
  const number = (value: number) => String(value).padStart(5, '0');
  return groups.map((group, index) => ({
    file: `model-${number(index + 1)}-of-${number(groups.length)}.safetensors`,
    tensors: group,
  }));
}

function indexOf(shards: readonly Shard[], type: SafetensorsExport['type']): object {
  const entries = shards.flatMap(({ file, tensors }) => tensors.map((tensor) => ({ file, tensor })));
  return {
    metadata: { total_size: entries.reduce((sum, { tensor }) => sum + bytes(tensor.shape, type), 0) },
    weight_map: Object.fromEntries(entries.map(({ file, tensor }) => [safetensorsName(tensor.name), file])),
  };
}

async function writeShard(
  folder: string,
  { file, tensors }: Shard,
  options: SafetensorsExport,
): Promise<void> {
  const { type } = options;
  const entries = tensors.map(({ name, shape }) => ({ name: safetensorsName(name), dtype: type, shape }));
  const header = safetensorsHeader(entries, METADATA);
  const placed = tensors.map((tensor, index) => ({ tensor, type, offset: header.offsets[index]! }));
  await writeTensorFile(join(folder, file), header.bytes, header.size, placed, options);
}

/** Frequency factors of a GGUF file, for which config.json has no words, as the scaling that they came from, where it is found. */
function spelledOut(arch: Architecture): Architecture {
  if (arch.ropeScaling?.type !== 'factors') return arch;
  const ropeScaling = llama3Scaling(arch, arch.ropeScaling.factors);
  return ropeScaling === null ? arch : { ...arch, ropeScaling };
}

function bytes(shape: readonly number[], type: SafetensorsExport['type']): number {
  return encodedBytes(
    type,
    shape.reduce((product, dim) => product * dim, 1),
  );
}

function jsonText(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
