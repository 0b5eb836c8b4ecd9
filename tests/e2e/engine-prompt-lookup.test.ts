// Guessing tokens changes how many runs an answer takes, never the answer.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { builtKernels } from '../../src/runtime/native-kernels.js';
import { alone, together } from '../helpers/engine-runs.js';
import { randomBottleneck } from '../helpers/random-bottleneck.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { request, tinyModel } from '../helpers/tiny-model.js';

const skip =
  builtKernels().length === 0 && 'no kernels were compiled here: no C compiler, or another processor';
const model = await tinyModel('llama-tied', 'q4');
after(() => model.dispose());
const { architecture } = model.artifact.manifest;

/** A text with repetitions, so that there is something to find. */
function repetitive(seed: number): number[] {
  const phrase = randomTokens(seed, 6, architecture.vocabSize);
  return [...phrase, ...randomTokens(seed + 1, 3, architecture.vocabSize), ...phrase, ...phrase.slice(0, 3)];
}

const requests = [
  request(repetitive(1), { sampling: { maxTokens: 60 } }),
  request(repetitive(2), { sampling: { maxTokens: 60, temperature: 0.4, seed: 3 } }),
  request(repetitive(3), { sampling: { maxTokens: 60 }, adapter: randomLora(architecture, 4) }),
  request(repetitive(4), { sampling: { maxTokens: 60, logprobs: 2, repetitionPenalty: 1.1 } }),
  request(repetitive(5), { sampling: { maxTokens: 1 } }),
  request(repetitive(6), { sampling: { maxTokens: 2 } }),
  request(repetitive(7), { sampling: { maxTokens: 40, stopTokenIds: [17, 99, 140, 201] } }),
  request(repetitive(8), {
    sampling: { maxTokens: 30 },
    adapter: randomBottleneck(architecture, 5, { size: 8 }),
  }),
  request(randomTokens(9, 70, architecture.vocabSize), { sampling: { maxTokens: 128 - 70 } }),
];

test('every answer is the same to the bit, in fewer runs', { skip }, async () => {
  const [on, off] = [await model.open(), await model.open({ promptLookup: false })];
  const [got, expected] = [await alone(on, requests), await alone(off, requests)];
  assert.deepEqual(got, expected);
  const { numDraftTokens, numAcceptedTokens, numSteps } = on.engine.stats();
  assert(
    numAcceptedTokens > 20 && numAcceptedTokens <= numDraftTokens,
    `${numAcceptedTokens} of ${numDraftTokens}`,
  );
  assert.equal(numSteps, off.engine.stats().numSteps - numAcceptedTokens);
  assert.equal(off.engine.stats().numDraftTokens, 0);
  assert.deepEqual(await together(on, requests), await together(off, requests), 'beside others');
  for (const engine of [on, off]) await engine.dispose();
});

test('a conversation finds in the prefix cache what was guessed', { skip }, async () => {
  const engine = await model.open({ prefixCacheBytes: 2 ** 24 });
  const [first] = await alone(engine, [requests[0]!]);
  const next = request([...requests[0]!.promptTokens, ...first!.tokens, 1, 2, 3], {
    sampling: { maxTokens: 5 },
  });
  const [cached] = await alone(engine, [next]);
  assert(engine.engine.stats().prefixCacheHitTokens > requests[0]!.promptTokens.length);
  const fresh = await model.open({ promptLookup: false });
  assert.deepEqual((await alone(fresh, [next]))[0]!.logprobs, cached!.logprobs);
  for (const each of [engine, fresh]) await each.dispose();
});

test('on the runtime’s own operators nothing is guessed where that would change bits', async () => {
  const engine = await model.open({ kernels: null });
  const plain = await model.open({ kernels: null, promptLookup: false });
  assert.deepEqual(await alone(engine, requests), await alone(plain, requests));
  for (const each of [engine, plain]) await each.dispose();
});
