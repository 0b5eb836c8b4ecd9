// Runs the head over the rows that predict a label, in chunks: log-probabilities and what the backward pass needs of them.

import type { Architecture } from '../../model/architecture.js';
import type { Precision } from '../options.js';
import type { Backend, YieldPoint } from '../types.js';
import { addInto } from '../parameters.js';
import type { ArrayPool } from './array-pool.js';
import { compileGraph, type CompiledGraph } from './compiled-graph.js';
import { GraphCache } from './graph-cache.js';
import { type HeadGradients, type HeadGraph, headGraph } from './head-graph.js';

/** Final norm [H] and head [V, H]. */
export interface HeadWeights {
  readonly norm: Float32Array;
  readonly head: Float32Array;
}

/** n rows that predict labels. */
export interface HeadRows {
  /** [n, H]: the last block's output. */
  readonly hidden: Float32Array;
  /** [n] */
  readonly labels: Int32Array;
}

export interface HeadRunner {
  /** [n]. With `rowGradients` [n, H], writes d logprob / d hidden of each row there: a frozen head's whole backward pass. */
  logprobs(weights: HeadWeights, rows: HeadRows, rowGradients: Float32Array | null): Promise<Float32Array>;
  /** d(sum_i w_i * logprob_i)/d hidden [n, H]; the same with respect to norm and head is added to `into`. */
  backward(weights: HeadWeights, rows: HeadRows, w: Float32Array, into: HeadWeights): Promise<Float32Array>;
  dispose(): void;
}

interface CompiledHead {
  readonly head: HeadGraph;
  readonly graph: CompiledGraph;
  dispose(): void;
}

const MIN_CHUNK_ROWS = 16;
const MAX_CHUNK_ROWS = 256;
/** 32 MB of logits. */
const MAX_CHUNK_LOGITS = 2 ** 23;
const CACHE_CAPACITY = 16;

export interface HeadRunnerOptions {
  readonly backend: Backend;
  readonly arch: Architecture;
  /** Of a frozen head. */
  readonly precision: Precision;
  readonly yieldPoint: YieldPoint;
  readonly pool: ArrayPool;
}

export function createHeadRunner(options: HeadRunnerOptions): HeadRunner {
  const { arch, yieldPoint, pool } = options;
  const cache = new GraphCache<CompiledHead>(CACHE_CAPACITY);
  const { hiddenSize } = arch;

  /** Calls `use` for chunk after chunk with its graph, its range of rows and its inputs, padded to the graph's size. */
  async function eachChunk(
    wanted: HeadGradients,
    weights: HeadWeights,
    { hidden, labels }: HeadRows,
    w: Float32Array | null,
    use: (chunk: Chunk) => void,
  ): Promise<void> {
    for (let start = 0; start < labels.length;) {
      const size = chunkRows(labels.length - start, arch.vocabSize);
      const end = Math.min(start + size, labels.length);
      const compiled = await cache.get(`${wanted} ${size}`, () => compileHead(options, size, wanted));
      const inputs = new Map<string, Float32Array | BigInt64Array>([
        ['h', padded(hidden.subarray(start * hiddenSize, end * hiddenSize), size * hiddenSize)],
        ['labels', BigInt64Array.from({ length: size }, (_, i) => BigInt(labels[start + i] ?? 0))],
        ['norm', weights.norm],
        ['head', weights.head],
      ]);
      if (w !== null) inputs.set('weights', padded(w.subarray(start, end), size));
      await yieldPoint();
      const results = await compiled.graph.run([inputs]);
      const gradient = (input: string): Float32Array => results.get(compiled.head.gradients.get(input)!)!;
      use({ start, end, logprobs: results.get(compiled.head.logprobs)!, gradient });
      for (const result of results.values()) pool.give(result);
      start = end;
    }
  }

  return {
    async logprobs(weights, rows, rowGradients) {
      const out = new Float32Array(rows.labels.length);
      await eachChunk(rowGradients === null ? 'none' : 'rows', weights, rows, null, (chunk) => {
        const { start, end } = chunk;
        out.set(chunk.logprobs.subarray(0, end - start), start);
        rowGradients?.set(chunk.gradient('h').subarray(0, (end - start) * hiddenSize), start * hiddenSize);
      });
      return out;
    },
    async backward(weights, rows, w, into) {
      const out = new Float32Array(rows.hidden.length);
      await eachChunk('all', weights, rows, w, ({ start, end, gradient }) => {
        out.set(gradient('h').subarray(0, (end - start) * hiddenSize), start * hiddenSize);
        addInto(into.norm, gradient('norm'));
        addInto(into.head, gradient('head'));
      });
      return out;
    },
    dispose: () => cache.dispose(),
  };
}

interface Chunk {
  /** Range of rows. */
  readonly start: number;
  readonly end: number;
  /** At least end - start, then padding. */
  readonly logprobs: Float32Array;
  readonly gradient: (input: 'h' | 'norm' | 'head') => Float32Array;
}

async function compileHead(
  { backend, arch, precision, pool }: HeadRunnerOptions,
  numRows: number,
  wanted: HeadGradients,
): Promise<CompiledHead> {
  const head = headGraph(arch, numRows, wanted, precision);
  const graph = await compileGraph(backend, head.graph, pool);
  return { head, graph, dispose: () => graph.dispose() };
}

/** A power of two: few sizes, so few graphs. */
function chunkRows(numRows: number, vocabSize: number): number {
  const most = 2 ** Math.floor(Math.log2(MAX_CHUNK_LOGITS / vocabSize));
  const needed = 2 ** Math.ceil(Math.log2(numRows));
  return Math.max(MIN_CHUNK_ROWS, Math.min(most, needed, MAX_CHUNK_ROWS));
}

function padded(values: Float32Array, length: number): Float32Array {
  if (values.length === length) return values;
  const out = new Float32Array(length);
  out.set(values);
  return out;
}
