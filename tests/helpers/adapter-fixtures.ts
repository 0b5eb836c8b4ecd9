// The fixtures' bases and adapters as the adapter readers take them, and small made-up ones. No engine: weights are read as f32.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AdapterBase } from '../../src/adapters/base.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../../src/formats/safetensors.js';
import type { Architecture, Family } from '../../src/model/architecture.js';
import type { StoredMatrix } from '../../src/model/stored-matrix.js';

export const fixtures = join(import.meta.dirname, '..', 'fixtures');

export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** All tensors of a safetensors file. */
export function readTensors(bytes: Uint8Array): Map<string, Tensor> {
  const source = bytesSource('tensors', bytes);
  const { tensors } = readSafetensorsHeader(source);
  return new Map(
    [...tensors].map(([name, info]) => [name, { shape: info.shape, data: readTensorF32(source, info) }]),
  );
}

export function adapterFiles(base: string, name: string): Map<string, Uint8Array> {
  const folder = join(fixtures, 'adapters', base, name);
  return new Map(readdirSync(folder).map((file) => [file, readFileSync(join(folder, file))]));
}

export function fixtureConfig(base: string, name: string): Record<string, unknown> {
  const config: Record<string, unknown> = JSON.parse(
    readFileSync(join(fixtures, 'adapters', base, name, 'adapter_config.json'), 'utf8'),
  );
  return config;
}

/** A PEFT folder's two files. */
export function peftFiles(
  config: Readonly<Record<string, unknown>>,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Map<string, Uint8Array> {
  return new Map([
    ['adapter_config.json', new TextEncoder().encode(JSON.stringify(config))],
    ['adapter_model.safetensors', writeSafetensors(tensors, metadata)],
  ]);
}

export interface FixtureBase extends AdapterBase {
  /** A projection's matrix whole, row-major [out, in]. */
  weight(name: string): Float32Array;
}

/** A base of the fixtures. */
export function fixtureBase(name: string): FixtureBase {
  const folder = join(fixtures, 'bases', name);
  const config: HfConfig = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const tensors = new Map<string, Tensor>();
  for (const file of readdirSync(folder).filter((entry) => entry.endsWith('.safetensors')))
    for (const [key, tensor] of readTensors(readFileSync(join(folder, file)))) tensors.set(key, tensor);
  return {
    architecture: architectureOf(config, tensors),
    baseHash: 'b'.repeat(64),
    name,
    matrix: (weightName) => storedMatrix(tensors.get(`model.${weightName}.weight`)!),
    weight: (weightName) => tensors.get(`model.${weightName}.weight`)!.data,
    bias: (weightName) => tensors.get(`model.${weightName}.bias`)?.data ?? null,
  };
}

/** An f32 matrix as one that is read by the row. */
export function storedMatrix({ shape, data }: Tensor): StoredMatrix {
  const [rows, cols] = shape as [number, number];
  const writeRow = (row: number, out: Float32Array, at: number) =>
    out.set(data.subarray(row * cols, (row + 1) * cols), at);
  return { rows, cols, writeRow };
}

interface HfConfig {
  readonly model_type: Family;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim?: number;
  readonly intermediate_size: number;
  readonly vocab_size: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
}

function architectureOf(config: HfConfig, tensors: ReadonlyMap<string, unknown>): Architecture {
  const has = (name: string) => tensors.has(`model.layers.0.${name}`);
  return {
    family: config.model_type,
    hiddenSize: config.hidden_size,
    numLayers: config.num_hidden_layers,
    numHeads: config.num_attention_heads,
    numKvHeads: config.num_key_value_heads,
    headDim: config.head_dim ?? config.hidden_size / config.num_attention_heads,
    intermediateSize: config.intermediate_size,
    vocabSize: config.vocab_size,
    contextLength: config.max_position_embeddings,
    rmsNormEps: config.rms_norm_eps,
    ropeTheta: 10_000,
    ropeScaling: null,
    tiedHead: config.tie_word_embeddings,
    qkvBias: has('self_attn.q_proj.bias'),
    outputBias: has('self_attn.o_proj.bias'),
    mlpBias: has('mlp.up_proj.bias'),
    qkNorm: has('self_attn.q_norm.weight'),
    slidingWindow: null,
  };
}

/** Numbers in [-1, 1) that are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function randomTensor(shape: readonly number[], random: () => number): Tensor {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return { shape, data: Float32Array.from({ length: size }, () => random()) };
}

/** A promise that the test settles. */
export function gated<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}
