// The same seed gives the same text whatever else runs, and however the prompt was cut: to the bit for the 4-bit base.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { ServingAdapter } from '../../src/adapters/types.js';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import type { GenerationRequest } from '../../src/engine/types.js';
import { alone, assertSame, together, TOLERANCE } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel, type Result } from '../helpers/tiny-model.js';

const VOCAB = 320;
const LORA_TOLERANCE = 1e-2;
const CHUNKS = [4, 16, 64];
const model = await tinyModel('llama-tied', 'q4');
after(() => model.dispose());
const lora = randomLora(model.artifact.manifest.architecture, 21, { rank: 8 });

function sampled(seed: number, adapter: ServingAdapter | null = null, promptLength = 37): GenerationRequest {
  return request(randomTokens(seed, promptLength, VOCAB), {
    adapter,
    sampling: { temperature: 1, seed, maxTokens: 12 },
  });
}

/** The request's answer while others, one of them with an adapter, run beside it. */
async function inCompany(engine: OpenEngine, item: GenerationRequest): Promise<Result> {
  const others = [5, 23, 1].map((length, i) => sampled(900 + i, i === 1 ? lora : null, length));
  const [result] = await together(engine, [item, ...others]);
  return result!;
}

for (const prefillChunk of CHUNKS) {
  test(`base in q4, chunks of ${prefillChunk}: same seed, same bits, alone and in company`, async () => {
    const reference = await model.open({ prefillChunk: 64 });
    const engine = await model.open({ prefillChunk });
    for (const seed of [1, 2, 3]) {
      const expected = await collect(reference.engine.generate(sampled(seed)));
      assert.equal(expected.tokens.length, 12);
      assert.deepEqual(await collect(engine.engine.generate(sampled(seed))), expected, `seed ${seed} alone`);
      assert.deepEqual(await inCompany(engine, sampled(seed)), expected, `seed ${seed} in company`);
    }
    await reference.dispose();
    await engine.dispose();
  });
}

test('LoRA rows in q4: same seed, same text in any company and chunking', async () => {
  const expected = await (async () => {
    const engine = await model.open({ prefillChunk: 64 });
    const results = await alone(engine, [sampled(4, lora), sampled(5, lora)]);
    await engine.dispose();
    return results;
  })();
  for (const prefillChunk of CHUNKS) {
    const engine = await model.open({ prefillChunk });
    for (const [i, seed] of [4, 5].entries())
      assertSame(
        await inCompany(engine, sampled(seed, lora)),
        expected[i]!,
        `seed ${seed}, chunks of ${prefillChunk}`,
        LORA_TOLERANCE,
      );
    await engine.dispose();
  }
});

test('another seed gives another text, and null draws one', async () => {
  const engine = await model.open();
  const prompt = randomTokens(1, 10, VOCAB);
  const texts = await together(
    engine,
    [1, 2, null, null].map((seed) => request(prompt, { sampling: { temperature: 1, seed, maxTokens: 16 } })),
  );
  assert.equal(new Set(texts.map(({ tokens }) => tokens.join(','))).size, 4);
  await engine.dispose();
});

for (const weights of ['f32', 'q4'] as const) {
  test(`${weights}: prompts run side by side answer as prompts run one by one`, async () => {
    const other = await tinyModel('llama-tied', weights);
    const [on, off] = [
      await other.open({ prefillChunk: 64 }),
      await other.open({ prefillChunk: 64, batchPrompts: false }),
    ];
    const requests = Array.from({ length: 9 }, (_, i) =>
      request(randomTokens(i, 1 + ((5 * i) % 17), VOCAB), {
        adapter: i % 3 === 1 ? lora : null,
        sampling: { maxTokens: 5 },
      }),
    );
    const [got, expected] = [await together(on, requests), await together(off, requests)];
    const tolerance = weights === 'f32' ? TOLERANCE : LORA_TOLERANCE;
    got.forEach((result, i) => {
      assertSame(result, expected[i]!, `request ${i}`, tolerance);
      if (weights === 'q4' && i % 3 !== 1)
        assert.deepEqual(result.logprobs, expected[i]!.logprobs, `request ${i}`);
    });
    assert(on.engine.stats().numSteps < off.engine.stats().numSteps, 'fewer runs side by side');
    await on.dispose();
    await off.dispose();
    other.dispose();
  });
}
