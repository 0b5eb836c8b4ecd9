// Cached prompts answer as uncached ones do, for the base and every kind of adapter, and never leak from one adapter to another.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { ServingAdapter } from '../../src/adapters/types.js';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import { alone, assertSame, together, TOLERANCE } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel, type TinyModel } from '../helpers/tiny-model.js';

const VOCAB = 320;
const CACHE = { prefixCacheBytes: 16_000_000 };
const model = await tinyModel('llama-tied');
const quantized = await tinyModel('llama-tied', 'q4');
after(() => [model, quantized].forEach((item) => item.dispose()));
const P = randomTokens(1, 40, VOCAB);
const Q = randomTokens(2, 50, VOCAB);

async function adapters(of: TinyModel, engine: OpenEngine): Promise<Record<string, ServingAdapter | null>> {
  const { architecture } = of.artifact.manifest;
  return {
    base: null,
    lora: randomLora(architecture, 31),
    'other lora': randomLora(architecture, 32),
    dora: await of.adapter('dora-all-r8', engine),
    ia3: await of.adapter('ia3', engine),
    prefix: await of.adapter('prefix-8', engine),
    prompt: await of.adapter('prompt-8', engine),
  };
}

for (const [label, of] of Object.entries({ f32: model, q4: quantized })) {
  test(`${label}: a cached prompt answers as an uncached one, for every kind of adapter`, async () => {
    const [plain, cached] = [await of.open(), await of.open(CACHE)];
    const tolerance = label === 'f32' ? TOLERANCE : 1e-2;
    for (const [name, adapter] of Object.entries(await adapters(of, plain))) {
      const expected = await collect(plain.engine.generate(request(P, { adapter })));
      const [first, second] = await alone(cached, [request(P, { adapter }), request(P, { adapter })]);
      assert.deepEqual(
        [expected, first, second].map((result) => result!.numCachedTokens),
        [0, 0, 36],
        name,
      );
      assertSame(first!, expected, `${name}, first`, tolerance);
      assertSame(second!, expected, `${name}, cached`, tolerance);
      if (label === 'q4' && adapter === null) assert.deepEqual(second!.logprobs, expected.logprobs);
    }
    await plain.dispose();
    await cached.dispose();
  });
}

test('a conversation finds what it generated itself', async () => {
  const [plain, cached] = [await model.open(), await model.open(CACHE)];
  const first = await collect(cached.engine.generate(request(P, { sampling: { maxTokens: 20 } })));
  const next = [...P, ...first.tokens, ...randomTokens(3, 5, VOCAB)];
  const got = await collect(cached.engine.generate(request(next)));
  assert.equal(got.numCachedTokens, 56, 'fourteen blocks of the 59 tokens that were computed');
  assertSame(got, await collect(plain.engine.generate(request(next))), 'second turn');
  await plain.dispose();
  await cached.dispose();
});

test('after A(P), B(Q), B(P) the last answer equals its uncached self', async () => {
  const [plain, cached] = [await model.open(), await model.open(CACHE)];
  const all = Object.entries(await adapters(model, plain));
  for (const [nameA, a] of all) {
    for (const [nameB, b] of all) {
      if (nameA === nameB) continue;
      const fresh = randomTokens(100 + all.findIndex(([name]) => name === nameA), 40, VOCAB);
      const wanted = request(fresh, { adapter: b, sampling: { maxTokens: 4 } });
      await alone(cached, [request(fresh, { adapter: a }), request(Q, { adapter: b })]);
      const got = await collect(cached.engine.generate(wanted));
      assertSame(got, await collect(plain.engine.generate(wanted)), `${nameA} then ${nameB}`);
      assert.equal(got.numCachedTokens, 0, 'the first use of this prompt under this adapter');
    }
  }
  await plain.dispose();
  await cached.dispose();
});

test("another tenant's prompt is never found, by the base or an adapter, and its answer is the same", async () => {
  const cached = await model.open(CACHE);
  const { lora, prefix } = await adapters(model, cached);
  for (const adapter of [null, lora!, prefix!]) {
    const [mine, theirs, again] = await alone(cached, [
      request(P, { adapter, tenant: 'a', fairnessId: 'x' }),
      request(P, { adapter, tenant: 'b', fairnessId: 'x' }),
      request(P, { adapter, tenant: 'a', fairnessId: 'y' }),
    ]);
    assert.deepEqual([mine!.numCachedTokens, theirs!.numCachedTokens], [0, 0]);
    assert(again!.numCachedTokens >= 32, 'a fairness id is no border');
    assertSame(theirs!, mine!, 'the second tenant');
  }
  await cached.dispose();
});

test('names of tenants and adapters cannot be put together to reach the prompts of others', async () => {
  const cached = await model.open(CACHE);
  const tenants = ['a', 'a/base', '["a","base"]', '0', '', 'base'];
  for (const tenant of tenants)
    assert.equal((await collect(cached.engine.generate(request(P, { tenant })))).numCachedTokens, 0, tenant);
  await cached.dispose();
});

test('cached and uncached rows share a batch', async () => {
  const [plain, cached] = [await model.open(), await model.open(CACHE)];
  const { lora, prefix } = await adapters(model, plain);
  const requests = [P, Q, P.slice(0, 17), [...Q.slice(0, 32), ...P]].flatMap((prompt) =>
    [null, lora!, prefix!].map((adapter) => request(prompt, { adapter, sampling: { maxTokens: 5 } })),
  );
  const expected = await together(plain, requests);
  await together(cached, requests);
  const got = await together(cached, requests);
  got.forEach((result, i) => assertSame(result, expected[i]!, `request ${i}`));
  assert(got.every(({ numCachedTokens }) => numCachedTokens >= 16));
  const { prefixCacheHitTokens, prefixCacheQueriedTokens } = cached.engine.stats();
  assert(prefixCacheHitTokens > 0 && prefixCacheHitTokens <= prefixCacheQueriedTokens);
  await plain.dispose();
  await cached.dispose();
});

test('log-probabilities of the prompt are computed anew, whatever is cached', async () => {
  const cached = await model.open(CACHE);
  const wanted = request(P, { promptLogprobs: true });
  const [first, second] = await alone(cached, [wanted, wanted]);
  assert.deepEqual(second, first);
  assert.equal(second!.promptLogprobs!.length, P.length);
  assert.equal(second!.numCachedTokens, 0);
  await cached.dispose();
});

test('a cancelled prompt leaves only correct blocks behind', async () => {
  const [plain, cached] = [await model.open(), await model.open({ ...CACHE, prefillChunk: 4 })];
  const long = randomTokens(5, 100, VOCAB);
  const controller = new AbortController();
  const running = collect(cached.engine.generate(request(long, { signal: controller.signal })));
  while (cached.engine.stats().numSteps < 10) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  assert.equal((await running).finish, 'cancelled');
  const got = await collect(cached.engine.generate(request(long)));
  assert(got.numCachedTokens >= 32 && got.numCachedTokens < 96, `${got.numCachedTokens} cached`);
  assertSame(got, await collect(plain.engine.generate(request(long))), 'after the cancelled one');
  await plain.dispose();
  await cached.dispose();
});
