// What ends a sequence: the model's own end tokens, stop tokens, the length, and what min_tokens and ignore_eos change about it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { GenerationEvent, GenerationRequest, SamplingParams } from '../../src/engine/types.js';
import { randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel } from '../helpers/tiny-model.js';

const VOCAB = 320;
const model = await tinyModel('llama-tied');
after(() => model.dispose());
const PROMPT = randomTokens(5, 12, VOCAB);
const plain = await model.open();
after(() => plain.dispose());
/** Greedy, without any end. */
const TEXT = (await collect(plain.engine.generate(request(PROMPT, { sampling: { maxTokens: 16 } })))).tokens;
const STOP = TEXT[5]!;
const STOP_AT = TEXT.indexOf(STOP);

function wanted(sampling: Partial<SamplingParams>): GenerationRequest {
  return request(PROMPT, { sampling: { maxTokens: 16, ...sampling } });
}

async function events(generation: AsyncIterable<GenerationEvent>): Promise<GenerationEvent[]> {
  const all: GenerationEvent[] = [];
  for await (const event of generation) all.push(event);
  return all;
}

function tokensOf(all: readonly GenerationEvent[]): number[] {
  return all.flatMap((event) => (event.type === 'token' ? [event.token] : []));
}

test('a stop token ends the sequence, is reported and not emitted', async () => {
  const all = await events(plain.engine.generate(wanted({ stopTokenIds: [STOP] })));
  assert.deepEqual(tokensOf(all), TEXT.slice(0, STOP_AT));
  assert.deepEqual(all.at(-1), { type: 'finish', reason: 'stop', stopToken: STOP });
});

test('events: one prompt, tokens, one finish', async () => {
  const all = await events(plain.engine.generate(wanted({ maxTokens: 3 })));
  assert.deepEqual(
    all.map(({ type }) => type),
    ['prompt', 'token', 'token', 'token', 'finish'],
  );
  assert.deepEqual(all.at(-1), { type: 'finish', reason: 'length', stopToken: null });
});

test('maxTokens 0 runs the prompt alone', async () => {
  const all = await events(plain.engine.generate({ ...wanted({ maxTokens: 0 }), promptLogprobs: true }));
  assert.deepEqual(
    all.map(({ type }) => type),
    ['prompt', 'finish'],
  );
  const [prompt] = all;
  assert(prompt?.type === 'prompt' && prompt.promptLogprobs?.length === PROMPT.length);
  assert.equal(prompt.promptLogprobs[0], null);
});

test('minTokens holds a stop token back, then it may come', async () => {
  const minTokens = STOP_AT + 3;
  const all = await events(plain.engine.generate(wanted({ stopTokenIds: [STOP], minTokens })));
  const tokens = tokensOf(all);
  assert(tokens.length >= minTokens);
  assert.deepEqual(tokens.slice(0, STOP_AT), TEXT.slice(0, STOP_AT));
  assert(!tokens.includes(STOP));
});

test('the end tokens of the base end a sequence unless ignoreEos', async () => {
  const ending = await model.open({ manifest: { ...model.artifact.manifest, eosTokenIds: [STOP] } });
  const stopped = await events(ending.engine.generate(wanted({ ignoreEos: false })));
  assert.deepEqual(tokensOf(stopped), TEXT.slice(0, STOP_AT));
  assert.deepEqual(stopped.at(-1), { type: 'finish', reason: 'stop', stopToken: STOP });

  const ignored = await events(ending.engine.generate(wanted({ ignoreEos: true })));
  assert.deepEqual(tokensOf(ignored), TEXT);

  const late = await events(ending.engine.generate(wanted({ ignoreEos: false, minTokens: STOP_AT + 1 })));
  assert(tokensOf(late).length > STOP_AT && !tokensOf(late).includes(STOP));

  const other = TEXT[2]!;
  const both = await events(ending.engine.generate(wanted({ ignoreEos: true, stopTokenIds: [other] })));
  assert.deepEqual(both.at(-1), { type: 'finish', reason: 'stop', stopToken: other });
  await ending.dispose();
});

test('the whole context can be used: prompt and output to the last token', async () => {
  const small = await model.open({ contextLength: 32 });
  for (const promptLength of [1, 16, 31]) {
    const prompt = randomTokens(promptLength, promptLength, VOCAB);
    const sampling = { maxTokens: 32 - promptLength };
    const result = await collect(small.engine.generate(request(prompt, { sampling })));
    assert.equal(result.tokens.length, 32 - promptLength);
    assert.deepEqual(
      result.tokens,
      (await collect(plain.engine.generate(request(prompt, { sampling })))).tokens,
    );
  }
  await small.dispose();
});

test('log-probabilities report the alternatives asked for, none for null', async () => {
  const all = await events(plain.engine.generate(wanted({ logprobs: 3, maxTokens: 2 })));
  for (const event of all) {
    if (event.type !== 'token') continue;
    assert.equal(event.logprob!.top.length, 3);
    assert.deepEqual(event.logprob!.top[0], [event.token, event.logprob!.logprob], 'greedy takes the first');
  }
  const none = await events(plain.engine.generate(wanted({ logprobs: null, maxTokens: 2 })));
  assert(none.every((event) => event.type !== 'token' || event.logprob === null));
});
