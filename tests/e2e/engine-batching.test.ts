// What else is in the batch changes no answer: base, LoRA, DoRA, IA3, prefix, prompt-tuning and bottleneck rows, alone and in any mix.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { ServingAdapter } from '../../src/adapters/types.js';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import { alone, assertSame, TOLERANCE, together } from '../helpers/engine-runs.js';
import { request, tinyModel, type TinyModel } from '../helpers/tiny-model.js';
import { randomBottleneck } from '../helpers/random-bottleneck.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';

const WEIGHTS = ['f32', 'q4', 'q8'] as const;
const VOCAB = 320;

const models = await Promise.all(WEIGHTS.map((weights) => tinyModel('llama-tied', weights)));
after(() => models.forEach((model) => model.dispose()));

async function mixedAdapters(model: TinyModel, engine: OpenEngine): Promise<(ServingAdapter | null)[]> {
  const named = ['lora-all-r8', 'dora-all-r8', 'ia3', 'prefix-8', 'prompt-8'];
  const fixtures: ServingAdapter[] = [];
  for (const name of named) fixtures.push(await model.adapter(name, engine));
  const { architecture } = model.artifact.manifest;
  return [
    null,
    ...fixtures,
    randomLora(architecture, 1, { rank: 4 }),
    randomLora(architecture, 2, { rank: 16, projections: ['q_proj', 'v_proj'] }),
    randomLora(architecture, 3, { rank: 3, projections: ['down_proj'] }),
    randomBottleneck(architecture, 4, { size: 4 }),
    randomBottleneck(architecture, 5, { size: 12 }),
    null,
  ];
}

WEIGHTS.forEach((weights, index) => {
  const model = models[index]!;

  test(`${weights}: rows of the base answer together as they do alone`, async () => {
    const engine = await model.open({ slots: 8 });
    const requests = Array.from({ length: 8 }, (_, i) =>
      request(randomTokens(i, 1 + 7 * i, VOCAB), { sampling: { maxTokens: 4 + i } }),
    );
    const expected = await alone(engine, requests);
    const got = await together(engine, requests);
    got.forEach((result, i) => assertSame(result, expected[i]!, `request ${i}`));
    assert.notDeepEqual(expected[0]!.tokens.slice(0, 4), expected[1]!.tokens.slice(0, 4));
    await engine.dispose();
  });

  test(`${weights}: any mix of adapters answers as each adapter alone`, async () => {
    const engine = await model.open({ slots: 8 });
    const adapters = await mixedAdapters(model, engine);
    const requests = adapters.map((adapter, i) =>
      request(randomTokens(50 + (i % 3), 5 + 9 * (i % 3), VOCAB), {
        adapter,
        sampling: { maxTokens: 6 + (i % 4) },
      }),
    );
    const expected = await alone(engine, requests);
    const tolerance = weights === 'f32' ? TOLERANCE : 1e-2;
    for (const order of [requests.map((_, i) => i), requests.map((_, i) => (7 * i + 3) % requests.length)]) {
      const got = await together(
        engine,
        order.map((i) => requests[i]!),
      );
      got.forEach((result, place) =>
        assertSame(result, expected[order[place]!]!, `adapter ${order[place]!} at place ${place}`, tolerance),
      );
    }
    await engine.dispose();
    assert.equal(engine.liveHandles(), 0);
  });

  test(`${weights}: adapters change the answer, so a mix-up would show`, async () => {
    const engine = await model.open({ slots: 8 });
    const adapters = await mixedAdapters(model, engine);
    const prompt = randomTokens(77, 9, VOCAB);
    const results = await together(
      engine,
      adapters.map((adapter) => request(prompt, { adapter, sampling: { maxTokens: 1 } })),
    );
    const distinct = new Set(results.map(({ logprobs }) => logprobs[0]!.toFixed(3)));
    assert.equal(distinct.size, adapters.length - 1, 'only the two base rows agree');
    await engine.dispose();
  });

  test(`${weights}: the optimised form of adapters equals the plain form`, async () => {
    const grouped = await model.open({ slots: 6 });
    const plain = await model.open({ slots: 6, plainLora: true });
    const { architecture } = model.artifact.manifest;
    const pool = [
      null,
      ...[4, 5, 6, 7].map((seed) => randomLora(architecture, seed, { rank: 2 * seed })),
      ...[8, 9].map((seed) => randomBottleneck(architecture, seed, { size: 2 * seed })),
    ];
    const requests = Array.from({ length: 12 }, (_, i) =>
      request(randomTokens(i, 2 + 3 * i, VOCAB), {
        adapter: pool[(3 * i) % pool.length]!,
        sampling: { maxTokens: 5 },
      }),
    );
    const [got, expected] = [await together(grouped, requests), await together(plain, requests)];
    got.forEach((result, i) => {
      if (weights === 'f32') assertSame(result, expected[i]!, `request ${i}`);
      // Over rounded weights the optimised form keeps adapters in f16, and a last bit of x may become a step of its rounding.
      const difference = Math.abs(result.logprobs[0]! - expected[i]!.logprobs[0]!);
      assert(difference < 5e-2, `request ${i}: the first log-probabilities differ by ${difference}`);
    });
    await grouped.dispose();
    await plain.dispose();
  });

  test(`${weights}: a LoRA whose B is zero is the base`, async () => {
    const engine = await model.open();
    const prompt = randomTokens(9, 20, VOCAB);
    const zero = randomLora(model.artifact.manifest.architecture, 8, { strength: 0 });
    const [base, lora] = await together(engine, [request(prompt), request(prompt, { adapter: zero })]);
    assertSame(lora!, base!, 'B = 0');
    await engine.dispose();
  });
});
