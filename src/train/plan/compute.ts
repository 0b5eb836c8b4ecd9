// How long a run takes: the operations that a token costs, and the rate at which this machine computes them.
import { GraphBuilder } from '../../graph/builder.js';
import type { Architecture } from '../../model/architecture.js';
import type { TrainingOptions } from '../options.js';
import type { Backend } from '../types.js';
import { countBase } from './parameter-counts.js';

/** Rows, inner size and columns of the product that the rate is measured with: the order of a small base's projections. */
const PRODUCT = { rows: 1024, inner: 576, columns: 1536 };
const ROUNDS = 7;
/** A run's share of the rate of a bare product: attention, norms, copies and the optimizer take the rest. */
export const SHARE_OF_PRODUCTS = 0.7;

/**
 * Floating-point operations of a padded token: 2 for each weight it meets forward, as many backward, as many again where blocks are
 * computed anew, and as many for the weights' own gradients in a full run. `rowLength` counts for attention.
 */
export function operationsPerToken(
  arch: Architecture,
  options: Pick<TrainingOptions, 'method' | 'stage' | 'gradientCheckpointing'>,
  rowLength: number,
): number {
  const { blockMatrices } = countBase(arch);
  const attention = 2 * rowLength * arch.numHeads * arch.headDim;
  const head = arch.vocabSize * arch.hiddenSize;
  const passes = 2 + (options.gradientCheckpointing ? 1 : 0) + (options.method.name === 'full' ? 1 : 0);
  // The reference of DPO is one more pass forward.
  const reference = options.stage === 'dpo' ? 1 : 0;
  return 2 * (passes + reference) * arch.numLayers * (blockMatrices + attention) + 2 * (3 + reference) * head;
}

/** Operations a second of a product of f32 matrices, the best of a few: 0.1 s. `now` in milliseconds. */
export async function measureProducts(backend: Backend, now: () => number): Promise<number> {
  const { rows, inner, columns } = PRODUCT;
  const graph = new GraphBuilder();
  const x = graph.input('x', 'f32', [rows, inner]);
  const w = graph.input('w', 'f32', [inner, columns]);
  graph.output('y', 'f32', [rows, columns]);
  graph.node('MatMul', 'y', [x, w]);
  const executor = await backend.compile(graph);
  try {
    const inputs = new Map([
      ['x', { data: new Float32Array(rows * inner).fill(1), shape: [rows, inner] }],
      ['w', { data: new Float32Array(inner * columns).fill(1), shape: [inner, columns] }],
    ]);
    const outputs = new Map([['y', [rows, columns]]]);
    let best = Infinity;
    for (let round = 0; round < ROUNDS; round++) {
      const begun = now();
      await executor.run(inputs, outputs);
      best = Math.min(best, now() - begun);
    }
    return (2 * rows * inner * columns * 1000) / best;
  } finally {
    executor.dispose();
  }
}
