// The bank after any sequence of activations: every active adapter's slot holds exactly its matrices, padded with zeros.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdapterBank, FLOAT_STORAGE } from '../../src/adapters/bank.js';
import { bottleneckLayout } from '../../src/adapters/bottleneck-layout.js';
import { loraLayout } from '../../src/adapters/lora-layout.js';
import type { BottleneckAdapter, LoraAdapter } from '../../src/adapters/types.js';
import { randomStream } from '../../src/engine/random.js';
import { AssertionError } from '../../src/errors.js';
import { projectionShape, type Projection } from '../../src/model/architecture.js';
import { GROUP_NAMES, GROUPS } from '../../src/model/projection-group.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { randomBottleneck } from '../helpers/random-bottleneck.js';
import { randomLora } from '../helpers/random-lora.js';

const ARCH = smallArchitecture({
  hiddenSize: 6,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  intermediateSize: 10,
  vocabSize: 16,
  contextLength: 32,
});
const MAX_SLOTS = 6;
const SOME: readonly (readonly Projection[])[] = [
  ['q_proj', 'v_proj'],
  ['down_proj'],
  ['k_proj', 'o_proj', 'gate_proj'],
  ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
];

function pool(ranks: readonly number[]): LoraAdapter[] {
  return ranks.map((rank, i) => randomLora(ARCH, i + 1, { rank, projections: SOME[i % SOME.length]! }));
}

type LoraBank = AdapterBank<LoraAdapter>;
const loraBank = (): LoraBank => new AdapterBank(loraLayout(ARCH), MAX_SLOTS, FLOAT_STORAGE);

/** An adapter's matrix [rows, cols] in the bank. */
function matrixOf<A extends { readonly hash: string }>(bank: AdapterBank<A>, adapter: A, name: string) {
  const { rows, cols, values } = bank.arrays.find((array) => array.name === name)!;
  const slot = bank.slotOf(adapter);
  return { rows, cols, values: values.subarray(slot * rows * cols, (slot + 1) * rows * cols) };
}

/** Every number of the adapter's slot, against its matrices. */
function assertHolds(bank: LoraBank, adapter: LoraAdapter): void {
  for (let layer = 0; layer < ARCH.numLayers; layer++)
    for (const group of GROUP_NAMES) {
      const projections = GROUPS[group];
      const a = matrixOf(bank, adapter, `lora.layers.${layer}.${group}.a`);
      assert.equal(a.cols, projections.length * bank.width);
      projections.forEach((projection, part) => {
        const delta = adapter.layers[layer]!.lora[projection];
        const [out, inputSize] = projectionShape(ARCH, projection);
        const b = matrixOf(bank, adapter, `lora.layers.${layer}.${group}.b${part}`);
        assert.deepEqual([a.rows, b.rows, b.cols], [inputSize, bank.width, out]);
        for (let r = 0; r < bank.width; r++) {
          const inside = delta !== undefined && r < delta.rank;
          for (let k = 0; k < inputSize; k++) {
            const got = a.values[k * a.cols + part * bank.width + r];
            if (got !== (inside ? delta.a[k * delta.rank + r] : 0))
              assert.fail(`a of ${projection} at [${k}, ${r}]: ${got}`);
          }
          for (let n = 0; n < out; n++) {
            const got = b.values[r * out + n];
            if (got !== (inside ? delta.b[r * out + n] : 0))
              assert.fail(`b of ${projection} at [${r}, ${n}]: ${got}`);
          }
        }
      });
    }
}

function assertActive(bank: LoraBank, active: readonly LoraAdapter[], used: number): void {
  const slots = active.map((adapter) => bank.slotOf(adapter));
  assert.equal(new Set(slots).size, active.length, 'a slot each');
  assert(
    slots.every((slot) => slot < used),
    `slots ${slots.join()} within [0, ${used})`,
  );
  assert.equal(used, 1 + Math.max(...slots));
  assert(used <= active.length + 1 + active.length / 4, `${used} slots for ${active.length} adapters`);
  assert(used <= bank.capacity && bank.capacity <= MAX_SLOTS, `capacity ${bank.capacity}`);
  assert(bank.width >= Math.max(...active.map(({ maxRank }) => maxRank)));
  active.forEach((adapter) => assertHolds(bank, adapter));
  const { adapters } = bank;
  assert.equal(new Set(adapters.map(({ hash }) => hash)).size, adapters.length, 'no adapter twice');
}

for (const [label, ranks] of Object.entries({
  'one rank': [4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
  'mixed ranks': [1, 2, 4, 8, 9, 16, 17, 3, 20, 8],
})) {
  for (const seed of [1, 2, 3]) {
    test(`${label}, seed ${seed}: after each of 150 activations the bank is exact`, () => {
      const random = randomStream(seed);
      const bank = loraBank();
      const adapters = pool(ranks);
      let active: LoraAdapter[] = [];
      for (let i = 0; i < 150; i++) {
        active = active.filter(() => random() < 0.7);
        for (let more = Math.floor(random() * 4); more > 0 && active.length < MAX_SLOTS; more--) {
          const other = adapters[Math.floor(random() * adapters.length)]!;
          if (!active.includes(other)) active.push(other);
        }
        if (active.length > 0) assertActive(bank, active, bank.activate(active));
      }
    });
  }
}

test('activating what is there changes nothing', () => {
  const bank = loraBank();
  const adapters = pool([4, 4, 4]);
  bank.activate(adapters);
  const { generation } = bank;
  const slots = adapters.map((adapter) => bank.slotOf(adapter));
  for (const active of [adapters, adapters.slice(0, 1), [...adapters].reverse()]) bank.activate(active);
  assert.equal(bank.generation, generation);
  assert.deepEqual(
    adapters.map((adapter) => bank.slotOf(adapter)),
    slots,
  );
});

test('the arrays are replaced when the rank changes, and only then within the capacity', () => {
  const bank = loraBank();
  const [narrow, other, wide] = pool([4, 8, 9]);
  bank.activate([narrow!]);
  assert.equal(bank.width, 8);
  bank.activate([narrow!, wide!]);
  assert.equal(bank.width, 16);
  const { generation } = bank;
  bank.activate([narrow!]);
  assert.deepEqual([bank.width, bank.generation], [16, generation], 'nothing is missing: nothing is copied');
  bank.activate([other!]);
  assert.equal(bank.width, 8, 'a new adapter is the occasion to shrink');
  assertActive(bank, [other!], 1);
});

test('full to the last slot, then wholly exchanged', () => {
  const bank = loraBank();
  const adapters = pool(Array.from({ length: 12 }, () => 4));
  assertActive(bank, adapters.slice(0, 6), bank.activate(adapters.slice(0, 6)));
  assertActive(bank, adapters.slice(6), bank.activate(adapters.slice(6)));
  assert.throws(() => bank.activate(adapters.slice(0, 7)), AssertionError);
  assert.throws(() => bank.slotOf(adapters[0]!), AssertionError);
});

test('a bottleneck holds its matrices and biases, padded with zeros, after a wider one', () => {
  const bank = new AdapterBank<BottleneckAdapter>(bottleneckLayout(ARCH), MAX_SLOTS, FLOAT_STORAGE);
  const [wide, narrow] = [randomBottleneck(ARCH, 1, { size: 11 }), randomBottleneck(ARCH, 2, { size: 5 })];
  bank.activate([wide]);
  bank.activate([wide, narrow]);
  assert.equal(bank.width, 16);
  const { size, layers } = narrow;
  layers.forEach((layer, index) =>
    (['attention', 'mlp'] as const).forEach((place) => {
      const matrix = (suffix: string) => [
        ...matrixOf(bank, narrow, `bottleneck.layers.${index}.${place}.${suffix}`).values,
      ];
      const { down, downBias, up, upBias } = layer[place];
      const padding = Array.from({ length: 16 - size }, () => 0);
      const rows = Array.from({ length: ARCH.hiddenSize }, (_, k) => down.subarray(k * size, (k + 1) * size));
      assert.deepEqual(
        matrix('down'),
        rows.flatMap((row) => [...row, ...padding]),
      );
      assert.deepEqual(matrix('down_bias'), [...downBias, ...padding]);
      assert.deepEqual(matrix('up'), [
        ...up,
        ...padding.flatMap(() => new Array<number>(ARCH.hiddenSize).fill(0)),
      ]);
      assert.deepEqual(matrix('up_bias'), [...upBias]);
    }),
  );
});
