// The bank after any sequence of activations: every active adapter's slot holds exactly its matrices, padded with zeros.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoraBank } from '../../src/adapters/bank.js';
import type { LoraAdapter } from '../../src/adapters/types.js';
import { randomStream } from '../../src/engine/random.js';
import { AssertionError } from '../../src/errors.js';
import { projectionShape, type Architecture, type Projection } from '../../src/model/architecture.js';
import { GROUPS } from '../../src/model/projection-group.js';
import { randomLora } from '../helpers/random-lora.js';

const ARCH: Architecture = {
  family: 'llama',
  hiddenSize: 6,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  intermediateSize: 10,
  vocabSize: 16,
  contextLength: 32,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: null,
  tiedHead: true,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  slidingWindow: null,
};
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

/** Every number of the adapter's slot, against its matrices. */
function assertHolds(bank: LoraBank, adapter: LoraAdapter): void {
  const slot = bank.slotOf(adapter);
  for (const { layer, group, a, b, inputSize } of bank.groups) {
    const projections = GROUPS[group];
    const width = projections.length * bank.rank;
    projections.forEach((projection, part) => {
      const delta = adapter.layers[layer]!.lora[projection];
      const [out] = projectionShape(ARCH, projection);
      for (let r = 0; r < bank.rank; r++) {
        const inside = delta !== undefined && r < delta.rank;
        for (let k = 0; k < inputSize; k++) {
          const got = a[(slot * inputSize + k) * width + part * bank.rank + r];
          if (got !== (inside ? delta.a[k * delta.rank + r] : 0))
            assert.fail(`a of ${projection} at [${k}, ${r}]: ${got}`);
        }
        for (let n = 0; n < out; n++) {
          const got = b[part]![(slot * bank.rank + r) * out + n];
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
  assert(bank.rank >= Math.max(...active.map(({ maxRank }) => maxRank)));
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
      const bank = new LoraBank(ARCH, MAX_SLOTS);
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
  const bank = new LoraBank(ARCH, MAX_SLOTS);
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
  const bank = new LoraBank(ARCH, MAX_SLOTS);
  const [narrow, other, wide] = pool([4, 8, 9]);
  bank.activate([narrow!]);
  assert.equal(bank.rank, 8);
  bank.activate([narrow!, wide!]);
  assert.equal(bank.rank, 16);
  const { generation } = bank;
  bank.activate([narrow!]);
  assert.deepEqual([bank.rank, bank.generation], [16, generation], 'nothing is missing: nothing is copied');
  bank.activate([other!]);
  assert.equal(bank.rank, 8, 'a new adapter is the occasion to shrink');
  assertActive(bank, [other!], 1);
});

test('full to the last slot, then wholly exchanged', () => {
  const bank = new LoraBank(ARCH, MAX_SLOTS);
  const adapters = pool(Array.from({ length: 12 }, () => 4));
  assertActive(bank, adapters.slice(0, 6), bank.activate(adapters.slice(0, 6)));
  assertActive(bank, adapters.slice(6), bank.activate(adapters.slice(6)));
  assert.throws(() => bank.activate(adapters.slice(0, 7)), AssertionError);
  assert.throws(() => bank.slotOf(adapters[0]!), AssertionError);
});
