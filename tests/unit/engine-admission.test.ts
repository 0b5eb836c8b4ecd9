// Who gets a free slot, over simulated service: tenants, fairness ids, adapters and priorities get their shares, and nobody is kept out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jain } from '../../src/cli/bench/statistics.js';
import { AdmissionQueue, MAX_PASSES } from '../../src/engine/admission-queue.js';
import { MAX_PASSED } from '../../src/engine/fairness.js';
import { randomStream } from '../../src/engine/random.js';
import {
  claim,
  firstComeFirstServed,
  simulate,
  type SimulatedClient,
  type SimulatedRequest,
} from '../helpers/fair-simulation.js';

const SIZE = { slots: 16, steps: 4000 };

function client(tenant: string, options: Partial<SimulatedClient> = {}): SimulatedClient {
  return { ...claim(tenant), numUnderWay: 2, numPrompt: 20, numOutput: 30, ...options };
}

function tenants(count: number, options: Partial<SimulatedClient> = {}): SimulatedClient[] {
  return Array.from({ length: count }, (_, i) => client(`tenant-${i}`, options));
}

const fair = (): AdmissionQueue<SimulatedRequest> => new AdmissionQueue();

const CROWDS: Record<string, readonly SimulatedClient[]> = {
  'one with 50 requests under way, 9 with 2': [client('greedy', { numUnderWay: 50 }), ...tenants(9)],
  'one with long answers, 9 with short ones': [
    client('greedy', { numUnderWay: 50, numOutput: 300 }),
    ...tenants(9, { numUnderWay: 3 }),
  ],
  'one with long prompts, 9 with short ones': [
    client('greedy', { numUnderWay: 50, numPrompt: 500 }),
    ...tenants(9, { numUnderWay: 3 }),
  ],
  'one with many adapters, 9 with one': [
    ...Array.from({ length: 25 }, (_, i) => client('greedy', { adapterKey: `adapter-${i}` })),
    ...tenants(9),
  ],
  'one with many fairness ids, 9 without': [
    ...Array.from({ length: 25 }, (_, i) => client('greedy', { fairnessId: `id-${i}` })),
    ...tenants(9),
  ],
  'one with 50 requests under way, 19 with 2': [client('greedy', { numUnderWay: 50 }), ...tenants(19)],
};

function byTenant(clients: readonly SimulatedClient[], service: readonly number[]): number[] {
  const sums = new Map<string, number>();
  clients.forEach(({ tenant }, i) => sums.set(tenant, (sums.get(tenant) ?? 0) + service[i]!));
  return [...sums.values()];
}

for (const [name, clients] of Object.entries(CROWDS))
  test(`tenants are served alike: ${name}`, () => {
    const index = (policy: ReturnType<typeof firstComeFirstServed>): number =>
      jain(byTenant(clients, simulate(policy, clients, SIZE).service))!;
    const [fifo, own] = [index(firstComeFirstServed()), index(fair())];
    assert(fifo < 0.7, `first come, first served is at ${fifo}`);
    assert(own >= 0.95, `Jain's index is ${own}`);
  });

test('all slots are always used, whoever wants them', () => {
  const used = ({ service }: { service: readonly number[] }): number => service.reduce((a, b) => a + b);
  const clients = [client('greedy', { numUnderWay: 50 }), ...tenants(9)];
  const alone = [client('greedy', { numUnderWay: 16 })];
  const most = used(simulate(firstComeFirstServed(), clients, SIZE));
  for (const some of [clients, alone]) assert.equal(used(simulate(fair(), some, SIZE)), most);
});

test('within a tenant its fairness ids are served alike, and so are the adapters of one id', () => {
  const ids = [
    client('a', { fairnessId: 'greedy', numUnderWay: 50 }),
    ...Array.from({ length: 7 }, (_, i) => client('a', { fairnessId: `id-${i}`, numUnderWay: 3 })),
  ];
  const adapters = [
    client('a', { adapterKey: 'hot', numUnderWay: 50 }),
    ...Array.from({ length: 7 }, (_, i) => client('a', { adapterKey: `adapter-${i}`, numUnderWay: 3 })),
  ];
  for (const clients of [ids, adapters]) {
    const index = jain(simulate(fair(), clients, SIZE).service)!;
    assert(index >= 0.95, `Jain's index is ${index}`);
    assert(jain(simulate(firstComeFirstServed(), clients, SIZE).service)! < 0.7);
  }
});

test('a tenant gains nothing by naming fairness ids: the others get as much as if it named none', () => {
  const others = tenants(9);
  const shareOfOthers = (greedy: readonly SimulatedClient[]): number => {
    const { service } = simulate(fair(), [...others, ...greedy], SIZE);
    return service.slice(0, 9).reduce((a, b) => a + b) / service.reduce((a, b) => a + b);
  };
  const plain = shareOfOthers([client('greedy', { numUnderWay: 60 })]);
  for (const count of [2, 10, 60]) {
    const named = Array.from({ length: count }, (_, i) =>
      client('greedy', { fairnessId: `id-${i}`, numUnderWay: 60 / count }),
    );
    const share = shareOfOthers(named);
    assert(Math.abs(share - plain) < 0.01, `${count} ids leave ${share}, none leave ${plain}`);
  }
});

test('the same fairness id at two tenants is two', () => {
  const clients = [
    client('a', { fairnessId: 'x', numUnderWay: 50 }),
    client('b', { fairnessId: 'x', numUnderWay: 50 }),
    client('c', { fairnessId: 'y', numUnderWay: 50 }),
  ];
  assert(jain(simulate(fair(), clients, SIZE).service)! > 0.99);
});

test('a tenant that comes anew gets the very next slot, and no more than its share later', () => {
  const greedy = [97, 61].map((numOutput) => client('greedy', { numUnderWay: 50, numOutput }));
  const clients = [client('late', { numUnderWay: 100, numOutput: 100, from: 2000 }), ...greedy];
  const before = simulate(fair(), clients, { slots: 16, steps: 2000 });
  const after = simulate(fair(), clients, { slots: 16, steps: 12_000 });
  const first = after.admissions.find(({ client: { tenant } }) => tenant === 'late')!;
  assert.equal(first.admittedAt, first.arrivedAt);
  const [late, own] = byTenant(clients, after.service);
  const [none, alone] = byTenant(clients, before.service);
  assert(none === 0 && alone! > 0);
  const ratio = late! / (own! - alone!);
  assert(Math.abs(ratio - 1) < 0.03, `the late one got ${ratio} times the other's service from then on`);
});

test('time away is no claim to catch up, and service while alone no debt', () => {
  const queue = new AdmissionQueue<string>();
  queue.add('a1', claim('a'));
  queue.admit();
  queue.charge('a1', 100_000);
  for (const id of ['b1', 'b2', 'b3']) queue.add(id, claim('b'));
  for (const id of ['a2', 'a3', 'a4']) queue.add(id, claim('a'));
  const order: string[] = [];
  while (queue.size > 0) {
    const next = queue.admit();
    queue.charge(next, 10);
    order.push(next);
  }
  assert.deepEqual(order, ['b1', 'a2', 'b2', 'a3', 'b3', 'a4']);
});

test('who cancels is charged for what was run, not for what was asked', () => {
  const queue = new AdmissionQueue<string>();
  for (const id of ['a1', 'a2', 'a3']) queue.add(id, claim('a'));
  for (const id of ['b1', 'b2', 'b3']) queue.add(id, claim('b'));
  assert.equal(queue.admit(), 'a1');
  queue.charge('a1', 1000);
  queue.charge('a1', -990);
  queue.ended('a1');
  assert.equal(queue.admit(), 'b1');
  queue.charge('b1', 20);
  assert.equal(queue.admit(), 'a2', 'ten tokens against twenty');
  queue.charge('a2', 20);
  assert.equal(queue.admit(), 'b2');
});

test('adapters with equal claims take turns, however many requests one queued first', () => {
  const queue = new AdmissionQueue<string>();
  for (const key of ['a', 'b', 'c'])
    for (let i = 0; i < 3; i++) queue.add(`${key}${i}`, claim('t', { adapterKey: key }));
  const order: string[] = [];
  while (queue.size > 0) {
    const next = queue.admit();
    queue.charge(next, 5);
    order.push(next);
  }
  assert.equal(order.join(' '), 'a0 b0 c0 a1 b1 c1 a2 b2 c2');
});

test('an adapter that comes back request by request starves no other, and is not starved', () => {
  const queue = new AdmissionQueue<string>();
  for (let i = 0; i < 20; i++) queue.add(`crowd-${i}`, claim('t', { adapterKey: 'crowd' }));
  let order = '';
  let single: string | null = null;
  for (let i = 0; i < 20; i++) {
    if (single === null) queue.add((single = `single-${i}`), claim('t', { adapterKey: 'single' }));
    const next = queue.admit();
    queue.charge(next, 5);
    queue.ended(next);
    if (next === single) single = null;
    order += next[0]!;
  }
  assert.match(order, /^(cs|sc){10}$/);
});

test('no stream of new adapters or fresh fairness ids keeps an older request out for ever', () => {
  for (const key of ['adapterKey', 'fairnessId'] as const) {
    const queue = new AdmissionQueue<string>();
    queue.add('first', claim('t', { [key]: 'old' }));
    queue.admit();
    queue.charge('first', 1e9);
    queue.add('other', claim('t', { [key]: 'other' }));
    queue.add('kept out', claim('t', { [key]: 'old' }));
    let numBefore = 0;
    for (let next = ''; next !== 'kept out'; numBefore++) {
      queue.add(`new-${numBefore}`, claim('t', { [key]: `new-${numBefore}` }));
      next = queue.admit();
      assert(numBefore <= MAX_PASSED + 2, `${key}: still waits after ${numBefore} admissions`);
    }
    assert(numBefore > 2, 'it is behind at first');
  }
});

test('a higher priority goes first, a lower one is passed over a bounded number of times', () => {
  const clients = [
    client('low', { priority: -1, numUnderWay: 50 }),
    client('normal', { numUnderWay: 50 }),
    client('high', { priority: 5, numUnderWay: 50 }),
  ];
  const { admissions, service } = simulate(fair(), clients, SIZE);
  assert.equal(admissions[0]!.client.tenant, 'high');
  for (const tenant of ['low', 'normal', 'high']) {
    const at = admissions.flatMap(({ client: one }, i) => (one.tenant === tenant ? [i] : []));
    const gaps = at.slice(1).map((position, i) => position - at[i]!);
    assert(Math.max(...gaps) <= MAX_PASSES + 3, `${tenant} waits for ${Math.max(...gaps)} admissions`);
  }
  const share = service[2]! / service.reduce((a, b) => a + b);
  assert(share > 0.7, `the highest gets ${share}`);
});

test('a starved class does not make a new tenant of a higher one the owner of all', () => {
  const queue = new AdmissionQueue<string>();
  queue.add('low', claim('low', { priority: -1 }));
  queue.add('old-1', claim('old'));
  assert.equal(queue.admit(), 'old-1');
  queue.charge('old-1', 1000);
  for (const id of ['old-2', 'old-3']) queue.add(id, claim('old'));
  for (const id of ['new-1', 'new-2']) queue.add(id, claim('new'));
  const order: string[] = [];
  for (let i = 0; i < 4; i++) {
    order.push(queue.admit());
    queue.charge(order.at(-1)!, 10);
  }
  assert.deepEqual(order, ['new-1', 'old-2', 'new-2', 'old-3']);
});

test('what is withdrawn is not admitted, and random requests are each admitted once', () => {
  const random = randomStream(3);
  const below = (n: number): number => Math.floor(random() * n);
  const queue = new AdmissionQueue<number>();
  const waiting = new Set<number>();
  const running = new Set<number>();
  for (let id = 0; id < 3000; id++) {
    const options = { fairnessId: `f${below(3)}`, adapterKey: `a${below(3)}`, priority: below(2) };
    queue.add(id, claim(`t${below(5)}`, options));
    waiting.add(id);
    const some = [...waiting][below(waiting.size)]!;
    if (below(4) === 0) {
      queue.withdraw(some);
      queue.withdraw(some);
      waiting.delete(some);
    }
    if (waiting.size > 0 && below(3) > 0) {
      const next = queue.admit();
      assert(waiting.delete(next), `${next} does not wait`);
      running.add(next);
      queue.charge(next, below(50));
    }
    for (const done of running)
      if (below(4) === 0) {
        running.delete(done);
        queue.ended(done);
      }
    assert.equal(queue.size, waiting.size);
  }
  assert.deepEqual([...queue.items], [...waiting], 'oldest first');
});
