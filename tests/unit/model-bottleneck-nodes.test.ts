// The nodes of a bottleneck in each form of the bank, against a reference in f64: rows of three adapters and of none, in one run.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { bottleneckLayout } from '../../src/adapters/bottleneck-layout.js';
import type { BottleneckAdapter } from '../../src/adapters/types.js';
import { BankFeeds } from '../../src/engine/bank-feeds.js';
import { randomStream } from '../../src/engine/random.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { declareRouting, type BankForm } from '../../src/model/adapter-routing.js';
import type { Architecture } from '../../src/model/architecture.js';
import { addBottleneck, BOTTLENECK_PLACES } from '../../src/model/bottleneck-nodes.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { fixtureBase } from '../helpers/adapter-fixtures.js';
import { temporaryFolder } from '../helpers/model-folder.js';
import { randomBottleneck } from '../helpers/random-bottleneck.js';

const NUM_TOKENS = 3;
// ONNX Runtime's logistic function is an approximation.
const TOLERANCE = 1e-4;
const arch: Architecture = { ...fixtureBase('llama-tied').architecture, numLayers: 1 };
const H = arch.hiddenSize;
const folder = temporaryFolder(after);

/** Both places one after the other: h [B, S, H] -> y. */
function graphOf(form: BankForm): GraphBuilder {
  const graph = new GraphBuilder();
  const h = graph.input('h', 'f32', ['B', 'S', H]);
  declareRouting(graph, 'bottleneck', form);
  const y = BOTTLENECK_PLACES.reduce((value, place) => addBottleneck(graph, form, value, 0, place, H), h);
  graph.node('Identity', 'y', [y]);
  graph.output('y', 'f32', ['B', 'S', H]);
  return graph;
}

/** One token's hidden state through both places. */
function reference(hidden: Float32Array, adapter: BottleneckAdapter | null): Float64Array {
  let h = Float64Array.from(hidden);
  if (adapter === null) return h;
  const { size, layers } = adapter;
  for (const place of BOTTLENECK_PLACES) {
    const { down, downBias, up, upBias } = layers[0]![place];
    const units = Array.from({ length: size }, (_, unit) => {
      const z = h.reduce((sum, value, k) => sum + value * down[k * size + unit]!, downBias[unit]!);
      return z / (1 + Math.exp(-z));
    });
    h = h.map((value, n) => units.reduce((sum, unit, u) => sum + unit * up[u * H + n]!, value + upBias[n]!));
  }
  return h;
}

async function compute(
  rows: readonly (BottleneckAdapter | null)[],
  h: Float32Array,
  plain: boolean,
): Promise<{ form: BankForm; y: Float32Array }> {
  const runtime = new Runtime();
  const feeds = new BankFeeds(
    runtime,
    'bottleneck',
    bottleneckLayout(arch),
    rows.length,
    plain ? 'plain' : 'grouped',
  );
  feeds.activate([...new Set(rows.filter((adapter) => adapter !== null))]);
  const { form, bank, own } = feeds.prepare(rows, NUM_TOKENS);
  const path = join(folder, `${form}.onnx`);
  writeFileSync(path, graphOf(form).encode());
  const session = await runtime.session(path, { threads: 1 });
  const shape = [rows.length, NUM_TOKENS, H];
  const y = new Float32Array(h.length);
  const [input, output] = [runtime.tensor(h, shape), runtime.tensor(y, shape)];
  await session.run([['h', input], ...bank, ...own], [['y', output]]);
  for (const tensor of [input, output, ...own.map(([, value]) => value)]) tensor.dispose();
  feeds.dispose();
  session.dispose();
  assert.equal(runtime.liveHandles, 0);
  return { form, y };
}

const [a, b, c] = [
  randomBottleneck(arch, 1, { size: 3 }),
  randomBottleneck(arch, 2, { size: 12 }),
  randomBottleneck(arch, 3),
];
const CASES: readonly (readonly [BankForm, boolean, readonly (BottleneckAdapter | null)[]])[] = [
  ['single', false, [null, b, b]],
  ['grouped', false, [a, null, b, c, a, null]],
  ['plain', true, [a, null, b, c, a, null]],
];

for (const [expectedForm, plain, rows] of CASES)
  test(`${expectedForm}: each row equals its adapter's own mathematics`, async () => {
    const random = randomStream(7);
    const h = Float32Array.from({ length: rows.length * NUM_TOKENS * H }, () => 2 * random() - 1);
    const { form, y } = await compute(rows, h, plain);
    assert.equal(form, expectedForm);
    rows.forEach((adapter, row) => {
      for (let token = 0; token < NUM_TOKENS; token++) {
        const start = (row * NUM_TOKENS + token) * H;
        const expected = reference(h.subarray(start, start + H), adapter);
        expected.forEach((value, n) => {
          const got = y[start + n]!;
          const isClose = Math.abs(got - value) <= TOLERANCE * Math.max(1, Math.abs(value));
          if (!isClose) assert.fail(`row ${row}, token ${token}, ${n}: ${got}, expected ${value}`);
        });
        if (adapter !== null) assert(Math.abs(expected[0]! - h[start]!) > TOLERANCE, 'it changes something');
      }
    });
  });
