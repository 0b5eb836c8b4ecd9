// Slots and places in the queue are shared fairly between tenants, adapters, and old and new requests, and none is ever lost.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { jain } from '../../src/cli/bench/statistics.js';
import { GatewayError } from '../../src/errors.js';
import { alone, assertSame, until } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel } from '../helpers/tiny-model.js';

const VOCAB = 320;
const model = await tinyModel('llama-tied');
after(() => model.dispose());
const arch = model.artifact.manifest.architecture;

test('8 adapters of 3 requests at 4 slots: none waits for another to run dry', async () => {
  const engine = await model.open({ slots: 4 });
  const answered: number[] = [];
  const adapters = Array.from({ length: 8 }, (_, i) => randomLora(arch, 60 + i));
  const all = adapters.flatMap((adapter, i) =>
    [0, 1, 2].map(async (j) => {
      const prompt = randomTokens(10 * i + j, 5, VOCAB);
      await collect(engine.engine.generate(request(prompt, { adapter, sampling: { maxTokens: 6 } })));
      answered.push(i);
    }),
  );
  await Promise.all(all);
  const lastFirst = Math.max(...adapters.map((_, i) => answered.indexOf(i)));
  const firstLast = Math.min(...adapters.map((_, i) => answered.lastIndexOf(i)));
  assert(lastFirst < firstLast, `answers came in the order ${answered.join(' ')}`);
  await engine.dispose();
});

test('a greedy tenant with 40 requests takes nothing from 4 tenants with 3 each', async () => {
  const engine = await model.open({ slots: 4 });
  const stop = new AbortController();
  const served = new Map<string, number>();
  const client = async (tenant: string, seed: number): Promise<void> => {
    while (!stop.signal.aborted)
      for await (const event of engine.engine.generate(
        request(randomTokens(seed, 6, VOCAB), { tenant, signal: stop.signal, sampling: { maxTokens: 6 } }),
      ))
        if (event.type === 'token') served.set(tenant, (served.get(tenant) ?? 0) + 1);
  };
  const clients = [
    ...Array.from({ length: 40 }, (_, seed) => client('greedy', seed)),
    ...['a', 'b', 'c', 'd'].flatMap((tenant) => [50, 51, 52].map((seed) => client(tenant, seed))),
  ];
  await until(() => [...served.values()].reduce((a, b) => a + b, 0) > 2000, 'tokens');
  const index = jain([...served.values()])!;
  stop.abort();
  await Promise.all(clients);
  assert.equal(served.size, 5);
  assert(index >= 0.95, `Jain's index is ${index} of ${JSON.stringify([...served])}`);
  await engine.dispose();
});

test('a tenant that comes while another holds all slots gets the next one that is free', async () => {
  const engine = await model.open({ slots: 2 });
  const answered: string[] = [];
  const ask = async (tenant: string, maxTokens: number): Promise<void> => {
    await collect(engine.engine.generate(request([1, 2, 3], { tenant, sampling: { maxTokens } })));
    answered.push(tenant);
  };
  const crowd = Array.from({ length: 20 }, (_, i) => ask('greedy', 20 + i));
  await until(() => engine.engine.stats().numSteps > 5, 'both slots taken');
  await Promise.all([ask('late', 1), ...crowd]);
  assert.equal(answered.indexOf('late'), 1, answered.join(' '));
  await engine.dispose();
});

test('a higher priority is answered first, a lower one is not kept waiting for ever', async () => {
  const engine = await model.open({ slots: 1 });
  const answered: string[] = [];
  const ask = async (tenant: string, priority: number): Promise<void> => {
    await collect(
      engine.engine.generate(request([1, 2, 3], { tenant, priority, sampling: { maxTokens: 2 } })),
    );
    answered.push(tenant);
  };
  await Promise.all([ask('low', 0), ask('low', 0), ...Array.from({ length: 20 }, () => ask('high', 1))]);
  assert.deepEqual(answered.indexOf('low'), 8, answered.join(' '));
  assert.equal(answered.lastIndexOf('low'), 17);
  await engine.dispose();
});

test('a full queue is not full for a tenant that holds less of it', async () => {
  const engine = await model.open({ slots: 1, maxWaiting: 4 });
  const { engine: e } = engine;
  const refusal = (work: () => unknown): GatewayError => {
    try {
      work();
    } catch (error) {
      if (error instanceof GatewayError) return error;
    }
    return assert.fail('was not refused');
  };
  const running = collect(e.generate(request([1, 2], { tenant: 'greedy', sampling: { maxTokens: 60 } })));
  await until(() => e.stats().numRunning === 1, 'the slot taken');
  const greedy = [0, 1, 2, 3].map(() => collect(e.generate(request([1, 2], { tenant: 'greedy' }))));
  const own = refusal(() => e.generate(request([1, 2], { tenant: 'greedy' })));
  assert.match(own.message, /^The queue is full, and 4 of the 4 requests in it are of this tenant\./);
  const other = collect(e.generate(request([1, 2], { tenant: 'other' })));
  assert.equal(e.stats().numWaiting, 4);
  await assert.rejects(greedy[3]!, (error) => {
    assert(error instanceof GatewayError);
    assert.deepEqual([error.code, error.status, error.retryAfterS], ['queue_full', 429, 1]);
    assert.match(error.message, /made room for another tenant, of which fewer wait/);
    return true;
  });
  const named = collect(e.generate(request([1, 2], { tenant: 'greedy', fairnessId: 'x' })));
  await assert.rejects(greedy[2]!, /made room for another fairness id of its tenant/);
  for (const done of await Promise.all([running, ...greedy.slice(0, 2), other, named]))
    assert.equal(done.finish, 'length');
  await engine.dispose();
});

test('one request of a second adapter does not wait behind the queue of the first', async () => {
  const engine = await model.open({ slots: 2 });
  const answered: string[] = [];
  const ask = async (label: string, seed: number): Promise<void> => {
    const adapter = randomLora(arch, label === 'crowd' ? 71 : 72);
    await collect(engine.engine.generate(request(randomTokens(seed, 5, VOCAB), { adapter })));
    answered.push(label);
  };
  await Promise.all([...Array.from({ length: 12 }, (_, i) => ask('crowd', i)), ask('single', 99)]);
  assert(answered.indexOf('single') < 4, answered.join(' '));
  await engine.dispose();
});

test('a long prompt is not overtaken by short ones that come after it', async () => {
  const engine = await model.open({ slots: 4, prefillChunk: 4, batchPrompts: false });
  let numShort = 0;
  const stop = new AbortController();
  const clients = Array.from({ length: 8 }, async (_, seed) => {
    for (; !stop.signal.aborted && numShort < 300; numShort++)
      await collect(
        engine.engine.generate(request(randomTokens(seed, 4, VOCAB), { sampling: { maxTokens: 3 } })),
      );
  });
  await until(() => numShort >= 16, 'short requests under way');
  const adapter = randomLora(arch, 73);
  await collect(
    engine.engine.generate(request(randomTokens(5, 60, VOCAB), { adapter, sampling: { maxTokens: 1 } })),
  );
  const during = numShort;
  stop.abort();
  await Promise.all(clients);
  assert(during < 16 + 8, `${during - 16} short requests were answered meanwhile`);
  await engine.dispose();
});

test('random workloads with cancellations: no slot is lost, every request ends once, the survivors are right', async () => {
  const loras = [81, 82, 83].map((seed) => randomLora(arch, seed, { rank: 4 * (seed - 80) }));
  for (const seed of [1, 2, 3]) {
    const random = randomStream(seed);
    const below = (n: number): number => Math.floor(random() * n);
    const engine = await model.open({ slots: 3, prefillChunk: 8, prefixCacheBytes: 60_000 });
    const { engine: e } = engine;
    const items = Array.from({ length: 24 }, (_, i) => {
      const controller = new AbortController();
      const item = request(randomTokens(below(4), 1 + below(40), VOCAB), {
        adapter: [null, ...loras][below(4)]!,
        tenant: `tenant-${below(3)}`,
        fairnessId: [null, 'x', 'y'][below(3)]!,
        priority: below(2),
        signal: controller.signal,
        sampling: { maxTokens: 1 + below(12) },
      });
      return { item, controller, cancelAfter: i % 3 === 0 ? below(40) : null };
    });
    const results = items.map(({ item }) => collect(e.generate(item)));
    const cancelled = items.map(async ({ controller, cancelAfter }) => {
      if (cancelAfter === null) return;
      const at = e.stats().numSteps + cancelAfter;
      await until(
        () => e.stats().numSteps >= at || e.stats().numRunning + e.stats().numWaiting === 0,
        'turn',
      );
      controller.abort();
    });
    const ends = await Promise.all(results);
    await Promise.all(cancelled);
    await until(() => e.stats().numRunning === 0, 'all slots free');
    assert.equal(e.stats().numWaiting, 0);
    assert(
      ends.every(
        ({ finish }, i) => finish === 'length' || (finish === 'cancelled' && items[i]!.cancelAfter !== null),
      ),
    );

    const whole = items
      .filter((_, i) => ends[i]!.finish === 'length')
      .map(({ item }) => ({ ...item, signal: new AbortController().signal }));
    const reference = await model.open();
    const expected = await alone(reference, whole);
    ends
      .filter(({ finish }) => finish === 'length')
      .forEach((result, i) => assertSame(result, expected[i]!, `seed ${seed}, survivor ${i}`));
    const full = Array.from({ length: 3 }, () =>
      collect(e.generate(request([1, 2, 3], { sampling: { maxTokens: 60 } }))),
    );
    await until(() => e.stats().numRunning === 3, 'all slots usable');
    await Promise.all(full);
    await engine.dispose();
    await reference.dispose();
    assert.equal(engine.liveHandles(), 0);
  }
});
