// Reads manifest.json, which may be damaged or of another version, into a Manifest that can be trusted:
// types, and every blob inside weights.bin with exactly the length that its shape takes.

import { z } from 'zod';
import { GatewayError } from '../errors.js';
import type { Architecture } from './architecture.js';
import { MAX_LAYERS } from './architecture-check.js';
import { type Blob, type Manifest, MANIFEST_FILE, type MatrixEntry, WEIGHTS_FILE } from './artifact.js';
import { tensorList } from './tensor-list.js';

const FORMAT_VERSION = 1;

const count = z.int().min(1);
const tokenId = z.int().min(0);
const blob = z.object({ offset: z.int().min(0), length: z.int().min(0) });
const positive = z.number().positive();
const ropeScaling = z.discriminatedUnion('type', [
  z.object({ type: z.literal('linear'), factor: positive }),
  z.object({ type: z.literal('dynamic'), factor: positive, originalContextLength: count }),
  z.object({
    type: z.literal('llama3'),
    factor: positive,
    lowFreqFactor: positive,
    highFreqFactor: positive,
    originalContextLength: count,
  }),
  z.object({
    type: z.literal('yarn'),
    factor: positive,
    originalContextLength: count,
    betaFast: positive,
    betaSlow: positive,
    attentionFactor: positive,
  }),
  z.object({ type: z.literal('factors'), factors: z.array(positive) }),
]);
const architecture = z.object({
  family: z.enum(['llama', 'qwen2', 'qwen3', 'mistral']),
  hiddenSize: count,
  numLayers: count.max(MAX_LAYERS),
  numHeads: count,
  numKvHeads: count,
  headDim: count,
  intermediateSize: count,
  vocabSize: count,
  contextLength: count,
  rmsNormEps: positive,
  ropeTheta: positive,
  ropeScaling: ropeScaling.nullable(),
  tiedHead: z.boolean(),
  qkvBias: z.boolean(),
  outputBias: z.boolean(),
  mlpBias: z.boolean(),
  qkNorm: z.boolean(),
  slidingWindow: count.nullable(),
}) satisfies z.ZodType<Architecture>;
const blockSize = z.union([z.literal(16), z.literal(32)]);
const matrix = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('f32'), rows: count, cols: count, data: blob }),
  z.object({
    kind: z.enum(['int4', 'int8']),
    rows: count,
    cols: count,
    blockSize,
    data: blob,
    scales: blob,
    minima: z.object({ blockSize, data: blob }).nullable(),
  }),
]) satisfies z.ZodType<MatrixEntry>;
const manifest = z.object({
  formatVersion: z.literal(FORMAT_VERSION),
  baseHash: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string().min(1),
  source: z.string(),
  weights: z.enum(['q4', 'q8', 'f32']),
  architecture,
  matrices: z.record(z.string(), matrix),
  vectors: z.record(z.string(), blob),
  eosTokenIds: z.array(tokenId),
  bosTokenId: tokenId.nullable(),
  addBos: z.boolean(),
  createdAt: z.string(),
}) satisfies z.ZodType<Manifest>;

/** `weightsBytes` is the size of weights.bin. Throws GatewayError invalid_file naming the entry at fault. */
export function parseManifest(text: string, folder: string, weightsBytes: number): Manifest {
  const refuse = (problem: string, cause?: unknown) =>
    new GatewayError('invalid_file', `${folder}: ${problem}; convert the model anew`, {
      param: MANIFEST_FILE,
      cause,
    });
  const parsed = manifest.safeParse(parseJson(text, refuse));
  if (!parsed.success)
    throw refuse(`${MANIFEST_FILE} is not valid:\n${z.prettifyError(parsed.error)}`, parsed.error);
  for (const [name, { shape }] of expectedEntries(parsed.data.architecture))
    checkEntry(parsed.data, name, shape, weightsBytes, refuse);
  return parsed.data;
}

type Refuse = (problem: string, cause?: unknown) => GatewayError;

function parseJson(text: string, refuse: Refuse): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw refuse(`${MANIFEST_FILE} is not valid JSON: ${(cause as Error).message}`, cause);
  }
}

function expectedEntries(arch: Architecture): ReadonlyMap<string, { readonly shape: readonly number[] }> {
  return new Map(tensorList(arch).map((spec) => [spec.name, spec]));
}

function checkEntry(
  { matrices, vectors }: Manifest,
  name: string,
  shape: readonly number[],
  weightsBytes: number,
  refuse: Refuse,
): void {
  const [rows, cols] = shape;
  const entry = Object.hasOwn(matrices, name) ? matrices[name] : undefined;
  const vector = Object.hasOwn(vectors, name) ? vectors[name] : undefined;
  const parts: (readonly [string, Blob, number])[] = [];
  if (cols === undefined && vector !== undefined) parts.push(['values', vector, rows! * 4]);
  if (cols !== undefined && entry !== undefined) {
    if (entry.rows !== rows || entry.cols !== cols)
      throw refuse(`Expected \`${name}\` to be [${rows}, ${cols}], got [${entry.rows}, ${entry.cols}]`);
    parts.push(...matrixParts(entry));
  }
  if (parts.length === 0) throw refuse(`\`${name}\` is missing in ${MANIFEST_FILE}`);
  for (const [part, { offset, length }, expected] of parts) {
    if (length !== expected)
      throw refuse(`Expected the ${part} of \`${name}\` to have ${expected} bytes, got ${length}`);
    if (offset % 4 !== 0 || offset + length > weightsBytes)
      throw refuse(
        `the ${part} of \`${name}\` are bytes ${offset} to ${offset + length} of ${WEIGHTS_FILE}, which has ${weightsBytes}`,
      );
  }
}

/** [what, where, expected length in bytes]. */
function matrixParts(entry: MatrixEntry): (readonly [string, Blob, number])[] {
  const { rows, cols, data } = entry;
  if (entry.kind === 'f32') return [['values', data, rows * cols * 4]];
  const blocks = Math.ceil(cols / entry.blockSize);
  const codeBytes = rows * blocks * entry.blockSize;
  const parts: (readonly [string, Blob, number])[] = [
    ['codes', data, entry.kind === 'int4' ? codeBytes / 2 : codeBytes],
    ['scales', entry.scales, rows * blocks * 4],
  ];
  if (entry.minima !== null)
    parts.push(['minima', entry.minima.data, rows * Math.ceil(cols / entry.minima.blockSize) * 4]);
  return parts;
}
