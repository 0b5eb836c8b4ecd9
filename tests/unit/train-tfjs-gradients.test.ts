// The gradients of a block and of the head three ways: our backward graph on ONNX Runtime, the same on TensorFlow.js, and
// TensorFlow.js's own differentiation of the forward graph.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { GraphBuilder } from '../../src/graph/builder.js';
import { type Architecture, PROJECTIONS, type Projection } from '../../src/model/architecture.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { product } from '../../src/train/autodiff/shapes.js';
import type { MatrixForm } from '../../src/train/frozen-weights.js';
import { type BlockSpec } from '../../src/train/graphs/block-graph.js';
import { NO_ADDITIONS } from '../../src/train/graphs/block-inputs.js';
import { blockPasses } from '../../src/train/graphs/block-passes.js';
import { headGraph } from '../../src/train/graphs/head-graph.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import type { Tfjs } from '../../src/train/tfjs/operation.js';
import { createTfjsBackend } from '../../src/train/tfjs-backend.js';
import type { Backend, BlockAdditions, InputData, InputValue } from '../../src/train/types.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { sequence } from '../helpers/gradient-check.js';
import { loadDifferentiableTfjs, tfjsGradients } from '../helpers/tfjs-gradients.js';

const TOLERANCE = 1e-4;
const onnx = createOnnxBackend(new Runtime(), 1);
let tfjs: Backend;
let tf: Tfjs;
before(async () => {
  tf = await loadDifferentiableTfjs();
  tfjs = await createTfjsBackend();
});
after(() => {
  onnx.dispose();
  tfjs.dispose();
});

/** Heads share keys, sizes are no multiples of each other, and blocks of 64 codes end inside rows. */
const ARCH = smallArchitecture({
  hiddenSize: 36,
  numLayers: 1,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 10,
  intermediateSize: 28,
  vocabSize: 23,
  contextLength: 64,
});
const BIASED: Architecture = { ...ARCH, qkvBias: true, outputBias: true, mlpBias: true, qkNorm: true };

const lora = (dropout: number): BlockAdditions['lora'] =>
  Object.fromEntries(PROJECTIONS.map((projection) => [projection, { rank: 3, scale: 2, dropout }]));
const all = (form: MatrixForm): Readonly<Record<Projection, MatrixForm>> =>
  Object.fromEntries(PROJECTIONS.map((projection) => [projection, form])) as Record<Projection, MatrixForm>;

interface Case {
  readonly title: string;
  readonly arch?: Architecture;
  readonly additions: Partial<BlockAdditions>;
  readonly form?: MatrixForm;
  readonly dropout?: boolean;
}
const CASES: readonly Case[] = [
  { title: 'LoRA', additions: { lora: lora(0) } },
  { title: 'LoRA with dropout', additions: { lora: lora(0.25) }, dropout: true },
  { title: 'LoRA on NF4 weights', additions: { lora: lora(0) }, form: { kind: 'nf4' } },
  {
    title: 'LoRA on codes with minima',
    additions: { lora: lora(0) },
    form: { kind: 'codes', zero: 8, blockSize: 32, minimaBlockSize: 32 },
  },
  { title: 'biases', additions: { biases: PROJECTIONS } },
  { title: 'biases on a base with its own', arch: BIASED, additions: { biases: PROJECTIONS } },
  { title: 'bottleneck', additions: { bottleneck: { size: 5 } } },
  { title: 'prefix', additions: { numPrefixTokens: 3 } },
  { title: 'full', additions: { full: true } },
  { title: 'full with biases and head norms', arch: BIASED, additions: { full: true } },
];

function blockSpec({ arch = ARCH, additions, form = { kind: 'f32' }, dropout = false }: Case): BlockSpec {
  const whole = { ...NO_ADDITIONS, ...additions };
  const forms = whole.full ? null : all(form);
  return { arch, additions: whole, forms, precision: 'f32', numRows: 2, numTokens: 4, dropout };
}

/** Values for every input; the mask is causal, dropout masks are zeros and ones, labels are tokens. */
function drawInputs(graph: GraphBuilder): Map<string, InputValue> {
  const random = sequence(11);
  return new Map(
    graph.inputs.map(({ name, type, shape: dims }) => {
      const shape = dims as readonly number[];
      const size = product(shape);
      const fill = (value: (i: number) => number): InputData => {
        if (type === 'u8') return Uint8Array.from({ length: size }, (_, i) => value(i));
        if (type === 'i64') return BigInt64Array.from({ length: size }, (_, i) => BigInt(value(i)));
        return Float32Array.from({ length: size }, (_, i) => value(i));
      };
      return [name, { data: fill(drawValue(name, type, shape, random)), shape }];
    }),
  );
}

function drawValue(
  name: string,
  type: string,
  shape: readonly number[],
  random: () => number,
): (i: number) => number {
  if (name === 'mask') {
    const [keys, tokens] = [shape.at(-1)!, shape.at(-2)!];
    return (i) => (i % keys > keys - tokens + (Math.floor(i / keys) % tokens) ? -1e9 : 0);
  }
  if (name.startsWith('dropout.')) return () => +(random() > 0.25);
  if (type === 'u8') return () => Math.floor(random() * 256);
  if (type === 'i64') return () => Math.floor(random() * ARCH.vocabSize);
  if (/\.(scales|minima)$/.test(name)) return () => (random() - 0.5) / 100;
  return () => random() * 2 - 1;
}

async function compute(backend: Backend, graph: GraphBuilder, inputs: ReadonlyMap<string, InputValue>) {
  const executor = await backend.compile(graph);
  const wanted = new Map(graph.outputs.map(({ name, shape }) => [name, shape as readonly number[]]));
  const read = new Map(graph.inputs.map(({ name }) => [name, inputs.get(name)!]));
  const found = await executor.run(read, wanted);
  executor.dispose();
  return found;
}

/** Relative to the gradient's largest element. */
function assertNear(actual: Float32Array, expected: Float32Array, name: string): void {
  assert.equal(actual.length, expected.length, name);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert(largest > 0, `${name} is zero everywhere: nothing is compared`);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i]!)), 0);
  assert(worst <= TOLERANCE * largest, `${name} is off by ${worst / largest} of its largest element`);
}

for (const each of CASES)
  test(`${each.title}: all gradients of a block agree`, async () => {
    const { forward, backward } = blockPasses(blockSpec(each), 'nothing');
    const inputs = drawInputs(backward.graph);
    for (const [name, value] of drawInputs(forward.graph)) if (!inputs.has(name)) inputs.set(name, value);
    const ours = await compute(onnx, backward.graph, inputs);
    const ported = await compute(tfjs, backward.graph, inputs);
    const wanted = [...backward.gradients.keys()];
    const oracle = await tfjsGradients(
      tf,
      forward.graph,
      new Map([[forward.y, inputs.get('dy')!]]),
      wanted,
      inputs,
    );
    for (const [input, output] of backward.gradients) {
      assertNear(ours.get(output)!, oracle.get(input)!, `ONNX Runtime's gradient of ${input}`);
      assertNear(ported.get(output)!, oracle.get(input)!, `TensorFlow.js's gradient of ${input}`);
    }
  });

test('all gradients of the head agree', async () => {
  const { graph, logprobs, gradients } = headGraph(ARCH, 5, 'all', 'f32');
  const inputs = drawInputs(graph);
  const ours = await compute(onnx, graph, inputs);
  const ported = await compute(tfjs, graph, inputs);
  const forward = headGraph(ARCH, 5, 'none', 'f32');
  const weights = new Map([[forward.logprobs, inputs.get('weights')!]]);
  const oracle = await tfjsGradients(tf, forward.graph, weights, ['h', 'norm', 'head'], inputs);
  for (const [input, output] of gradients) {
    assertNear(ours.get(output)!, oracle.get(input)!, `ONNX Runtime's gradient of ${input}`);
    assertNear(ported.get(output)!, oracle.get(input)!, `TensorFlow.js's gradient of ${input}`);
  }
  assertNear(ported.get(logprobs)!, ours.get(logprobs)!, 'log-probabilities');
});

test('the oracle keeps no tensors', async () => {
  const { graph, logprobs } = headGraph(ARCH, 2, 'none', 'f32');
  const inputs = drawInputs(graph);
  const weights = new Map([[logprobs, { data: Float32Array.of(1, 2), shape: [2, 1] }]]);
  const { numTensors } = tf.memory();
  await tfjsGradients(tf, graph, weights, ['h'], inputs);
  assert.equal(tf.memory().numTensors, numTensors);
});
