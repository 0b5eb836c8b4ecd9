// A whole decoder block with every addition: its backward graph against central differences of its forward graph.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Projection } from '../../src/model/architecture.js';
import { PROJECTIONS } from '../../src/model/architecture.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { layoutBatch } from '../../src/train/batch-layout.js';
import { blockInputs, NO_ADDITIONS } from '../../src/train/graphs/block-inputs.js';
import { type BlockPasses, blockPasses } from '../../src/train/graphs/block-passes.js';
import { compileGraph } from '../../src/train/graphs/compiled-graph.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { createRotations } from '../../src/train/rotations.js';
import type { BlockAdditions, InputData } from '../../src/train/types.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { assertClose, centralDifferences, sequence, spread } from '../helpers/gradient-check.js';
import { batchOf } from '../helpers/train-fixtures.js';

const backend = createOnnxBackend(new Runtime(), 1);
after(() => backend.dispose());

/** Every switch is on, and no two sizes are equal. */
const ARCH = smallArchitecture({
  family: 'qwen3',
  hiddenSize: 6,
  numLayers: 1,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  intermediateSize: 5,
  vocabSize: 11,
  contextLength: 64,
  ropeTheta: 100,
  qkvBias: true,
  outputBias: true,
  mlpBias: true,
  qkNorm: true,
  slidingWindow: 3,
});
const NUM_PREFIX = 2;
/** Two rows, one of them with two segments; the rest is padding. */
const BATCH = batchOf([[{ tokens: [1, 2, 3, 4, 5] }, { tokens: [6, 7] }], [{ tokens: [8, 9, 10] }]]);
const F32 = Object.fromEntries(PROJECTIONS.map((each) => [each, { kind: 'f32' }])) as Record<
  Projection,
  { readonly kind: 'f32' }
>;

const lora = Object.fromEntries(PROJECTIONS.map((each) => [each, { rank: 2, scale: 0.5, dropout: 0.25 }]));
const CASES: readonly [string, Partial<BlockAdditions>, boolean?][] = [
  ['LoRA', { lora }],
  ['LoRA with dropout', { lora }, true],
  ['biases', { biases: PROJECTIONS }],
  ['bottlenecks', { bottleneck: { size: 3 } }],
  ['a prefix', { numPrefixTokens: NUM_PREFIX }],
  ['full fine-tuning', { full: true }],
  ['nothing', {}],
];

for (const [title, part, dropout = false] of CASES)
  for (const keeping of ['nothing', 'products', 'all'] as const)
    test(`${title}, keeping ${keeping}: gradients equal central differences`, async () => {
      const additions = { ...NO_ADDITIONS, ...part };
      const values = new Map<string, InputData>(Object.entries(layout(additions.numPrefixTokens)));
      const numTokens = (values.get('cos')!.length / ARCH.headDim) * 2;
      const forms = additions.full ? null : F32;
      const spec = {
        arch: ARCH,
        additions,
        forms,
        precision: 'f32' as const,
        numRows: 2,
        numTokens: numTokens / 2,
        dropout,
      };
      const passes = blockPasses(spec, keeping);
      fillInputs(passes, values);
      await compare(passes, values, ['x', ...blockInputs(ARCH, additions).keys()]);
    });

async function compare(
  passes: BlockPasses,
  values: Map<string, InputData>,
  inputs: readonly string[],
): Promise<void> {
  const forward = await compileGraph(backend, passes.forward.graph);
  const backward = await compileGraph(backend, passes.backward.graph);
  const dy = values.get('dy') as Float32Array;
  const loss = async (): Promise<number> => {
    const y = (await forward.run([values])).get(passes.forward.y)!;
    return y.reduce((sum, value, i) => sum + value * dy[i]!, 0);
  };
  const results = await forward.run([values]);
  const kept = new Map(passes.kept.map((name) => [name, results.get(name)!]));
  const gradients = await backward.run([values, kept]);
  assert.equal(passes.backward.gradients.size, inputs.length);
  for (const input of inputs) {
    const of = values.get(input) as Float32Array;
    const indices = spread(of.length, 10);
    const gradient = gradients.get(passes.backward.gradients.get(input)!)!;
    const expected = await centralDifferences(of, loss, 1 / 128, indices);
    assertClose(
      indices.map((i) => gradient[i]!),
      expected,
      5e-3,
      input,
    );
    assert(
      expected.some((value) => Math.abs(value) > 1e-4),
      `${input} has no influence: nothing is tested`,
    );
  }
  forward.dispose();
  backward.dispose();
}

function layout(numPrefixTokens: number) {
  const [group] = layoutBatch(BATCH, {
    numVirtualTokens: 0,
    numPrefixTokens,
    slidingWindow: ARCH.slidingWindow,
    maxTokens: 1024,
    headDim: ARCH.headDim,
    rope: createRotations(ARCH),
  });
  const { cos, sin, mask } = group!;
  return { cos, sin, mask };
}

/** Random values for every input that has none; dy is zero at padding, as in training. */
function fillInputs(passes: BlockPasses, values: Map<string, InputData>): void {
  const random = sequence(7);
  for (const { name, type, shape } of [...passes.forward.graph.inputs, ...passes.backward.graph.inputs]) {
    if (values.has(name) || passes.kept.includes(name)) continue;
    const size = (shape as readonly number[]).reduce((product, dim) => product * dim, 1);
    const draw = () => random() * 2 - 1;
    const data =
      type === 'u8'
        ? Uint8Array.from({ length: size }, () => +(random() > 0.25))
        : Float32Array.from({ length: size }, draw);
    values.set(name, data);
  }
  const dy = values.get('dy') as Float32Array;
  const half = dy.length / 2;
  dy.fill(0, 7 * ARCH.hiddenSize, half);
  dy.fill(0, half + 3 * ARCH.hiddenSize);
}
