// A GGUF file as a checkpoint. Files of architecture llama hold the rows of q and k in another order (pairs of the rotation side
// by side, as ggml rotates them); whole rows are put back here, so quantized blocks stay as they are.

import { GatewayError } from '../errors.js';
import { dequantize } from '../formats/ggml-blocks.js';
import { type GgufTensor, readGguf, readGgufTensor } from '../formats/gguf.js';
import type { Checkpoint, CheckpointTensor, RawRows, TokenizerFiles } from './checkpoint.js';
import { Fields } from './fields.js';
import { type FileSource, openFileSource } from './file-source.js';
import { architectureFromGguf, ROPE_FACTORS_TENSOR } from './gguf-config.js';
import { ggufSpecialTokens } from './special-tokens.js';
import { ggufName, tensorList } from './tensor-list.js';
import { hashTensors, matchTensors, type StoredTensor } from './tensor-match.js';

/** Throws GatewayError not_found, unsupported_model, invalid_file. */
export function openGgufCheckpoint(path: string, tokenizerFiles: TokenizerFiles | undefined): Checkpoint {
  const source = openFileSource(path);
  try {
    return ggufCheckpoint(source, tokenizerFiles);
  } catch (error) {
    source.close();
    throw error;
  }
}

function ggufCheckpoint(source: FileSource, tokenizerFiles: TokenizerFiles | undefined): Checkpoint {
  const { metadata, tensors } = readGguf(source);
  refuseSplit(source.name, metadata);
  const factors = tensors.get(ROPE_FACTORS_TENSOR);
  const ropeFactors = factors === undefined ? null : readRopeFactors(source, factors);
  const architecture = architectureFromGguf(metadata, tensors, source.name, ropeFactors);
  const stored = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) stored.set(name, { ...tensor, dtype: tensor.type, source });
  const specs = tensorList(architecture);
  const expected = specs.map(({ name, shape }) => ({ name: ggufName(name), shape }));
  matchTensors(source.name, stored, expected, (name) => name === ROPE_FACTORS_TENSOR);
  const tensorOf = (name: string): CheckpointTensor => {
    const tensor = tensors.get(ggufName(name))!;
    const isPermuted = architecture.family === 'llama' && /\.self_attn\.[qk]_proj(\.bias)?$/.test(name);
    return ggufTensor(source, tensor, isPermuted ? architecture.headDim : null);
  };
  return {
    file: source.name,
    architecture,
    tensors: new Map(specs.map(({ name }) => [name, tensorOf(name)])),
    ...ggufSpecialTokens(new Fields(source.name, metadata)),
    files: new Map(Object.entries(tokenizerFiles?.(metadata) ?? {})),
    hash: () => hashTensors(stored),
    close: () => source.close(),
  };
}

function refuseSplit(file: string, metadata: ReadonlyMap<string, unknown>): void {
  const count = metadata.get('split.count');
  if (typeof count === 'number' && count > 1)
    throw new GatewayError(
      'unsupported_model',
      `${file} is one of ${count} parts of a split file; join them with llama-gguf-split --merge first`,
      { param: file },
    );
}

function readRopeFactors(source: FileSource, tensor: GgufTensor): Float32Array {
  const { type, bytes } = readGgufTensor(source, tensor);
  const factors = dequantize(type, bytes, tensor.shape[0]!);
  if (factors.every((factor) => Number.isFinite(factor) && factor > 0)) return factors;
  throw new GatewayError('invalid_file', `${source.name}: ${tensor.name} has a value that is not above 0`, {
    param: source.name,
  });
}

/** Elements of a vector are rows of one element. `permutedHeadDim`: put the rows of each head of this size back in order. */
function ggufTensor(
  source: FileSource,
  tensor: GgufTensor,
  permutedHeadDim: number | null,
): CheckpointTensor {
  const rowBytes = tensor.length / tensor.shape[0]!;
  const readStored = (start: number, end: number): RawRows & { readonly kind: 'ggml' } => {
    const part = { offset: tensor.offset + start * rowBytes, length: (end - start) * rowBytes };
    return { kind: 'ggml', ...readGgufTensor(source, { ...tensor, ...part }) };
  };
  return {
    shape: tensor.shape,
    sourceName: tensor.name,
    readRows(start, end) {
      if (permutedHeadDim === null) return readStored(start, end);
      const first = Math.floor(start / permutedHeadDim) * permutedHeadDim;
      const heads = readStored(first, Math.ceil(end / permutedHeadDim) * permutedHeadDim);
      const bytes = new Uint8Array((end - start) * rowBytes);
      for (let row = start; row < end; row++) {
        const from = (storedRow(row, permutedHeadDim) - first) * rowBytes;
        bytes.set(heads.bytes.subarray(from, from + rowBytes), (row - start) * rowBytes);
      }
      return { ...heads, bytes };
    },
  };
}

/** Row (half p, pair j) of a head is stored as row 2j + p of that head. */
function storedRow(row: number, headDim: number): number {
  const within = row % headDim;
  const half = headDim / 2;
  return row - within + 2 * (within % half) + Math.floor(within / half);
}
