// Runs the decoder blocks of one model: compiles a block's graphs for each shape, feeds them the block's weights, and keeps no activations
// itself.

import { type Architecture, type Projection, PROJECTIONS } from '../../model/architecture.js';
import type { FrozenBlock, FrozenBlocks, MatrixForm } from '../frozen-weights.js';
import type { RowGroup } from '../batch-layout.js';
import type { Precision } from '../options.js';
import type { Backend, BlockAdditions, BlockInputs, InputData } from '../types.js';
import type { ArrayPool } from './array-pool.js';
import type { BlockSpec } from './block-graph.js';
import { type BlockPasses, blockPasses, forwardPass } from './block-passes.js';
import { type CompiledGraph, compileGraph, type Values } from './compiled-graph.js';
import { dropoutMasks, hasDropout } from './dropout-masks.js';
import { GraphCache } from './graph-cache.js';
import { type Keeping, numKeptBlocks } from './kept-values.js';

/** One block's work on one group of rows. */
export interface BlockStep {
  readonly layer: number;
  readonly group: RowGroup;
  /** [B*S, H] */
  readonly x: Float32Array;
  /** The method's. */
  readonly inputs: BlockInputs;
  /** Of the group's dropout; null is none. */
  readonly seed: readonly number[] | null;
  /** Tokens, of this group and others, whose forward passes are made before a backward pass begins. */
  readonly numHeldTokens: number;
}

/** Values that backward() needs beside x. */
export type Kept = ReadonlyMap<string, Float32Array>;

export interface BlockRunner {
  /** y [B*S, H], and nothing for a backward pass. */
  infer(step: BlockStep): Promise<Float32Array>;
  forward(step: BlockStep): Promise<{ readonly y: Float32Array; readonly kept: Kept }>;
  /** Gradients by input: `x`, and those of blockInputs(). */
  backward(step: BlockStep, kept: Kept, dy: Float32Array): Promise<BlockInputs>;
  dispose(): void;
}

export interface BlockRunnerOptions {
  readonly backend: Backend;
  readonly arch: Architecture;
  readonly additions: BlockAdditions;
  /** Null in full fine-tuning. */
  readonly frozen: FrozenBlocks | null;
  /** Of the products with frozen matrices. */
  readonly precision: Precision;
  /** Keeps what fits a small budget, and computes the other blocks again. */
  readonly checkpointing: boolean;
  readonly pool: ArrayPool;
}

interface CompiledForward {
  readonly y: string;
  readonly graph: CompiledGraph;
  dispose(): void;
}

interface CompiledPasses {
  readonly passes: BlockPasses;
  readonly forward: CompiledGraph;
  readonly backward: CompiledGraph;
  dispose(): void;
}

/** Shapes that are kept compiled; with checkpointing, a shape may have graphs for both kinds of blocks. */
const CACHE_CAPACITY = 24;

export function createBlockRunner(options: BlockRunnerOptions): BlockRunner {
  const { arch, additions, frozen, precision, checkpointing } = options;
  const inferences = new GraphCache<CompiledForward>(CACHE_CAPACITY);
  const trainings = new GraphCache<CompiledPasses>(CACHE_CAPACITY);

  const specOf = ({ layer, group, seed }: BlockStep): BlockSpec => ({
    arch,
    additions,
    forms: frozen === null ? null : matrixForms(frozen.at(layer)),
    precision,
    numRows: group.numRows,
    numTokens: group.numTokens,
    dropout: seed !== null && hasDropout(additions),
  });
  const ranks = Object.values(additions.lora).reduce((sum, { rank }) => sum + rank, 0);
  const keepingOf = ({ layer, numHeldTokens }: BlockStep): Keeping => {
    if (!checkpointing) return 'all';
    return layer < numKeptBlocks(arch, ranks, numHeldTokens) ? 'products' : 'nothing';
  };
  const compiled = (step: BlockStep): Promise<CompiledPasses> => {
    const spec = specOf(step);
    const keeping = keepingOf(step);
    return trainings.get(`${keeping} ${specKey(spec)}`, () =>
      compilePasses(options, blockPasses(spec, keeping)),
    );
  };
  const values = ({ layer, group, x, inputs, seed }: BlockStep): Values => {
    const { cos, sin, mask } = group;
    const shared = new Map<string, InputData>(Object.entries({ x, cos, sin, mask }));
    const masks = seed === null ? [] : [dropoutMasks(arch, additions, group.tokens.length, [...seed, layer])];
    return [shared, inputs, ...(frozen === null ? [] : [blockValues(frozen.at(layer))]), ...masks];
  };

  return {
    async infer(step) {
      const spec = specOf(step);
      const { y, graph } = await inferences.get(specKey(spec), () => compileForward(options, spec));
      return (await graph.run(values(step))).get(y)!;
    },
    async forward(step) {
      const { passes, forward } = await compiled(step);
      const results = await forward.run(values(step));
      const kept = new Map(passes.kept.map((name) => [name, results.get(name)!]));
      return { y: results.get(passes.forward.y)!, kept };
    },
    async backward(step, kept, dy) {
      const { passes, backward } = await compiled(step);
      const results = await backward.run([new Map([['dy', dy]]), kept, ...values(step)]);
      return new Map([...passes.backward.gradients].map(([input, name]) => [input, results.get(name)!]));
    },
    dispose() {
      inferences.dispose();
      trainings.dispose();
    },
  };
}

async function compileForward(
  { backend, pool }: BlockRunnerOptions,
  spec: BlockSpec,
): Promise<CompiledForward> {
  const pass = forwardPass(spec);
  const graph = await compileGraph(backend, pass.graph, pool);
  return { y: pass.y, graph, dispose: () => graph.dispose() };
}

async function compilePasses(
  { backend, pool }: BlockRunnerOptions,
  passes: BlockPasses,
): Promise<CompiledPasses> {
  const forward = await compileGraph(backend, passes.forward.graph, pool);
  const backward = await compileGraph(backend, passes.backward.graph, pool);
  const dispose = (): void => {
    forward.dispose();
    backward.dispose();
  };
  return { passes, forward, backward, dispose };
}

/** What differs between the graphs of one model. */
function specKey({ forms, numRows, numTokens, dropout }: BlockSpec): string {
  return JSON.stringify({ forms, numRows, numTokens, dropout });
}

function matrixForms({ matrices }: FrozenBlock): Record<Projection, MatrixForm> {
  const forms = PROJECTIONS.map((projection) => [projection, matrices[projection].form]);
  return Object.fromEntries(forms) as Record<Projection, MatrixForm>;
}

function blockValues({ matrices, vectors }: FrozenBlock): ReadonlyMap<string, InputData> {
  const values = new Map<string, InputData>(vectors);
  for (const [projection, { parts }] of Object.entries(matrices))
    for (const [suffix, data] of parts) values.set(`weight.${projection}${suffix}`, data);
  return values;
}
