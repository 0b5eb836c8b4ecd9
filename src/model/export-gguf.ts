// A model as one GGUF file, as llama.cpp reads it. The rows of q and k are written in the order in which ggml rotates them where
// llama.cpp's architecture is llama: the inverse of gguf-checkpoint.ts.

import type { WeightType } from '../formats/float-encoding.js';
import { type GgufEntry, ggufHeader } from '../formats/gguf-writer.js';
import type { StoredMatrix } from './stored-matrix.js';
import { type DenseModel, type DenseTensor, reordered, vectorRows } from './dense-model.js';
import { ROPE_FACTORS_TENSOR } from './gguf-config.js';
import { architectureMetadata, ggufArchitecture, ropeDivisors } from './gguf-metadata.js';
import { makeNewPath } from './new-path.js';
import { ggufName } from './tensor-list.js';
import { type ExportProgress, writeTensorFile } from './tensor-stream.js';

export interface GgufExport extends ExportProgress {
  /** Of the matrices; vectors are F32, and matrices whose rows are no whole blocks of Q8_0 are F16. */
  readonly type: WeightType;
  /** `tokenizer.*`. */
  readonly tokenizer: Readonly<Record<string, GgufEntry>>;
}

/** llama.cpp's number for what most tensors are. */
const FILE_TYPES: Readonly<Record<WeightType, number>> = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 };
const Q8_BLOCK = 32;
/** Of the blocks' layout. */
const QUANTIZATION_VERSION = 2;

/** Writes a new file, whole or not at all. Throws GatewayError unsupported_model, invalid_value. */
export async function exportGguf(model: DenseModel, path: string, options: GgufExport): Promise<void> {
  const { architecture: arch } = model;
  const divisors = ropeDivisors(arch);
  const tensors = [
    ...(divisors === null ? [] : [ropeTensor(divisors)]),
    ...model.tensors.map((tensor) => ggufTensor(model, tensor)),
  ];
  const types = tensors.map(({ shape }) => tensorType(shape, options.type));
  const header = ggufHeader(
    {
      ...architectureMetadata(arch, model.name),
      'general.file_type': { type: 'u32', value: FILE_TYPES[options.type] },
      'general.quantization_version': { type: 'u32', value: QUANTIZATION_VERSION },
      ...options.tokenizer,
    },
    tensors.map(({ name, shape }, index) => ({ name, shape, type: types[index]! })),
  );
  const placed = tensors.map((tensor, index) => ({
    tensor,
    type: types[index]!,
    offset: header.offsets[index]!,
  }));
  await makeNewPath(path, header.size, (temporary) =>
    writeTensorFile(temporary, header.bytes, header.size, placed, options),
  );
}

function tensorType(shape: readonly number[], type: WeightType): WeightType {
  if (shape.length === 1) return 'F32';
  return type === 'Q8_0' && shape[1]! % Q8_BLOCK !== 0 ? 'F16' : type;
}

function ropeTensor(divisors: Float32Array): DenseTensor {
  return { name: ROPE_FACTORS_TENSOR, shape: [divisors.length], open: () => vectorRows(divisors) };
}

function ggufTensor({ architecture: arch }: DenseModel, tensor: DenseTensor): DenseTensor {
  const isPermuted =
    ggufArchitecture(arch) === 'llama' && /\.self_attn\.[qk]_proj(\.bias)?$/.test(tensor.name);
  const open = isPermuted
    ? (): StoredMatrix => reordered(tensor.open(), (row) => sourceRow(row, arch.headDim))
    : () => tensor.open();
  return { name: ggufName(tensor.name), shape: tensor.shape, open };
}

/** Stored row 2j + p of a head is row (half p, pair j) of that head. */
function sourceRow(stored: number, headDim: number): number {
  const within = stored % headDim;
  return stored - within + (within % 2) * (headDim / 2) + Math.floor(within / 2);
}
