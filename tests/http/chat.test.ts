// POST /v1/chat/completions over a fake engine: shapes, parameters, streaming against whole.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BOS, bytesOf, TURN_END, TURN_START } from '../helpers/byte-tokenizer.js';
import { says, UNIFORM_LOGPROB } from '../helpers/fake-engine.js';
import {
  chunksOf,
  jsonOf,
  NOW_MS,
  testApp,
  type TestAppOptions,
  type WireAnswer,
} from '../helpers/server-app.js';

const PATH = '/v1/chat/completions';
const hello = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] };
/** <start>user\nhi<end><start>assistant\n */
const HELLO_LENGTH = 1 + 7 + 1 + 1 + 10;

async function whole(options: TestAppOptions, body: object): Promise<WireAnswer> {
  const response = await testApp(options).post(PATH, body);
  assert.equal(response.status, 200, await response.clone().text());
  return jsonOf(response);
}

async function chunks(options: TestAppOptions, body: object): Promise<WireAnswer[]> {
  const response = await testApp(options).post(PATH, { ...body, stream: true });
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type')!, /text\/event-stream/);
  return chunksOf(await response.text());
}

describe('a whole answer', () => {
  test('has the shape of a chat.completion', async () => {
    const answer = await whole({ script: says('Hello wörld'), numCachedTokens: 7 }, hello);
    assert.match(answer.id, /^chatcmpl-[0-9a-f]{32}$/);
    assert.deepEqual(answer, {
      id: answer.id,
      object: 'chat.completion',
      created: NOW_MS / 1000,
      model: 'tiny',
      system_fingerprint: 'fp_0123456789ab',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hello wörld', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: {
        prompt_tokens: HELLO_LENGTH,
        completion_tokens: 12,
        total_tokens: HELLO_LENGTH + 12,
        prompt_tokens_details: { cached_tokens: 7 },
      },
    });
  });

  test('ends with length at max_tokens, in either spelling', async () => {
    for (const limit of [
      { max_tokens: 3 },
      { max_completion_tokens: 3 },
      { max_tokens: 3, max_completion_tokens: 3 },
    ]) {
      const answer = await whole({ script: says('abcdef') }, { ...hello, ...limit });
      assert.equal(answer.choices[0]!.message!.content, 'abc');
      assert.equal(answer.choices[0]!.finish_reason, 'length');
      assert.equal(answer.usage!.completion_tokens, 3);
    }
  });

  test('may take what is left of the context', async () => {
    const t = testApp({ script: says('ok'), contextLength: 100 });
    await t.post(PATH, hello);
    assert.equal(t.engine.requests[0]!.sampling.maxTokens, 100 - HELLO_LENGTH);
  });

  test('leaves room for the virtual tokens of an adapter', async () => {
    const t = testApp({ script: says('ok'), contextLength: 100 });
    t.adapters.add('prefix', { numVirtualTokens: 8 });
    await t.post(PATH, { ...hello, model: 'prefix' });
    assert.equal(t.engine.requests[0]!.sampling.maxTokens, 100 - HELLO_LENGTH - 8);
  });

  test('stops at a stop string across token borders and cancels the engine', async () => {
    const t = testApp();
    const reference = await jsonOf(await t.post(PATH, { ...hello, seed: 5, max_tokens: 40 }));
    const text = reference.choices[0]!.message!.content;
    const stop = text.slice(10, 14);
    const answer = await jsonOf(await t.post(PATH, { ...hello, seed: 5, stop: ['@@', stop] }));
    assert.equal(answer.choices[0]!.message!.content, text.slice(0, text.indexOf(stop)));
    assert.equal(answer.choices[0]!.finish_reason, 'stop');
    assert.equal(answer.usage!.completion_tokens, text.indexOf(stop) + 4);
    assert.equal(t.engine.numCancelled, 1);
    assert.equal(t.engine.numRunning, 0);
  });

  test('keeps what only looked like the beginning of a stop string', async () => {
    const answer = await whole({ script: says('a EN') }, { ...hello, stop: 'END' });
    assert.equal(answer.choices[0]!.message!.content, 'a EN');
  });

  test('n choices draw with seed, seed + 1, ...; the prompt counts once', async () => {
    const t = testApp();
    const answer = await jsonOf(await t.post(PATH, { ...hello, n: 3, seed: 10, max_tokens: 5 }));
    assert.deepEqual(
      t.engine.requests.map((request) => request.sampling.seed),
      [10, 11, 12],
    );
    assert.deepEqual(
      answer.choices.map((choice) => choice.index),
      [0, 1, 2],
    );
    for (const [index, choice] of answer.choices.entries()) {
      const alone = await jsonOf(await t.post(PATH, { ...hello, seed: 10 + index, max_tokens: 5 }));
      assert.deepEqual({ ...choice, index: 0 }, alone.choices[0]);
    }
    assert.deepEqual(
      [answer.usage!.prompt_tokens, answer.usage!.completion_tokens, answer.usage!.total_tokens],
      [HELLO_LENGTH, 15, HELLO_LENGTH + 15],
    );
  });

  test('log-probabilities cover every token, with the bytes of cut characters', async () => {
    const body = { ...hello, logprobs: true, top_logprobs: 2 };
    const answer = await whole({ script: says('é!') }, body);
    const top = [97, 98].map((byte) => ({
      token: String.fromCharCode(byte),
      logprob: UNIFORM_LOGPROB,
      bytes: [byte],
    }));
    const entry = (token: string, byte: number) => ({
      token,
      logprob: UNIFORM_LOGPROB,
      bytes: [byte],
      top_logprobs: top,
    });
    assert.deepEqual(answer.choices[0]!.logprobs, {
      content: [entry('\\xc3', 0xc3), entry('\\xa9', 0xa9), entry('!', 0x21)],
      refusal: null,
    });
  });

  test('log-probabilities without alternatives', async () => {
    const answer = await whole({ script: says('ab') }, { ...hello, logprobs: true });
    assert.deepEqual(
      answer.choices[0]!.logprobs!.content!.map((entry) => entry.top_logprobs),
      [[], []],
    );
  });
});

describe('what reaches the engine', () => {
  async function requestFor(body: object, options: TestAppOptions = {}) {
    const t = testApp({ script: says('ok'), ...options });
    const response = await t.post(PATH, { ...hello, ...body });
    assert.equal(response.status, 200, await response.clone().text());
    await response.text();
    return { request: t.engine.requests[0]!, ...t };
  }

  test('the defaults', async () => {
    const { request } = await requestFor({ max_tokens: 9 });
    assert.deepEqual(request.sampling, {
      temperature: 1,
      topP: 1,
      topK: 0,
      minP: 0,
      frequencyPenalty: 0,
      presencePenalty: 0,
      repetitionPenalty: 1,
      logitBias: new Map(),
      seed: null,
      maxTokens: 9,
      minTokens: 0,
      ignoreEos: false,
      stopTokenIds: [],
      logprobs: null,
    });
    assert.equal(request.adapter, null);
    assert.equal(request.promptLogprobs, false);
  });

  test('every sampling parameter', async () => {
    const { request } = await requestFor({
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      frequency_penalty: -1,
      presence_penalty: 1.5,
      repetition_penalty: 1.1,
      logit_bias: { 65: -100, 66: 5 },
      seed: 42,
      max_tokens: 20,
      min_tokens: 3,
      ignore_eos: true,
      stop_token_ids: [10, 13],
      logprobs: true,
      top_logprobs: 20,
    });
    assert.deepEqual(request.sampling, {
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.05,
      frequencyPenalty: -1,
      presencePenalty: 1.5,
      repetitionPenalty: 1.1,
      logitBias: new Map([
        [65, -100],
        [66, 5],
      ]),
      seed: 42,
      maxTokens: 20,
      minTokens: 3,
      ignoreEos: true,
      stopTokenIds: [10, 13],
      logprobs: 20,
    });
  });

  test('top_k -1 keeps all, top_p 0 keeps the most likely token', async () => {
    assert.equal((await requestFor({ top_k: -1 })).request.sampling.topK, 0);
    const { sampling } = (await requestFor({ top_p: 0 })).request;
    assert.deepEqual([sampling.topP, sampling.topK], [1, 1]);
  });

  test('null is absent, and labels of the caller are accepted', async () => {
    const { request } = await requestFor({
      temperature: null,
      stop: null,
      tools: null,
      response_format: { type: 'text' },
      stream: false,
      stream_options: null,
      user: 'someone',
      safety_identifier: 'x',
      prompt_cache_key: 'y',
      metadata: { run: '7' },
      store: false,
      service_tier: 'auto',
      stop_token_ids: [],
    });
    assert.equal(request.sampling.temperature, 1);
  });

  test('messages are rendered by the template: parts joined, developer as system', async () => {
    const messages = [
      { role: 'developer', content: 'be brief' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      { role: 'assistant', content: 'c', refusal: null },
      { role: 'user', content: '' },
    ];
    const { tokenizer, request } = await requestFor({
      messages,
      chat_template_kwargs: { enable_thinking: false },
    });
    assert.deepEqual(tokenizer.chats, [
      {
        messages: [
          { role: 'system', content: 'be brief' },
          { role: 'user', content: 'ab' },
          { role: 'assistant', content: 'c' },
          { role: 'user', content: '' },
        ],
        options: { addGenerationPrompt: true, variables: { enable_thinking: false } },
      },
    ]);
    assert.deepEqual(request.promptTokens.slice(0, 8), [TURN_START, ...bytesOf('system\n')]);
    assert.ok(!request.promptTokens.includes(BOS));
    assert.ok(request.promptTokens.includes(TURN_END));
  });

  test('an adapter by model, released once', async () => {
    const { request, adapters } = await requestFor({ model: 'german' }, { adapterNames: ['german'] });
    assert.equal(request.adapter!.hash, 'hash-of-german');
    assert.deepEqual([adapters.numAcquired, adapters.numReleased], [1, 1]);
  });

  test('several adapters by scale', async () => {
    const parts = [{ name: 'a', scale: 0.25 }, { name: 'b' }];
    const { request, adapters } = await requestFor({ adapters: parts }, { adapterNames: ['a', 'b'] });
    assert.deepEqual(adapters.combinations, [
      [
        { name: 'a', scale: 0.25 },
        { name: 'b', scale: 1 },
      ],
    ]);
    assert.equal(request.adapter!.hash, 'hash-of-a');
    assert.deepEqual([adapters.numAcquired, adapters.numReleased], [1, 1]);
  });
});

describe('a stream', () => {
  test('has the shape of chat.completion.chunk, role first, [DONE] last', async () => {
    const [first, ...rest] = await chunks({ script: says('hé') }, hello);
    const head = {
      id: first!.id,
      object: 'chat.completion.chunk',
      created: NOW_MS / 1000,
      model: 'tiny',
      system_fingerprint: 'fp_0123456789ab',
    };
    const chunk = (delta: object, finishReason: string | null = null) => ({
      ...head,
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason }],
    });
    assert.deepEqual(
      [first, ...rest],
      [
        chunk({ role: 'assistant', content: '', refusal: null }),
        chunk({ content: 'h' }),
        chunk({ content: 'é' }),
        chunk({}, 'stop'),
      ],
    );
  });

  test('include_usage: null in every chunk, then one chunk without choices', async () => {
    const all = await chunks({ script: says('hey') }, { ...hello, stream_options: { include_usage: true } });
    const last = all.pop()!;
    assert.deepEqual(
      all.map((chunk) => chunk.usage),
      [null, null, null, null, null],
    );
    assert.deepEqual(last.choices, []);
    assert.deepEqual(last.usage, {
      prompt_tokens: HELLO_LENGTH,
      completion_tokens: 3,
      total_tokens: HELLO_LENGTH + 3,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });

  test('without include_usage no chunk speaks of usage', async () => {
    const body = { ...hello, stream_options: { include_usage: false, include_obfuscation: false } };
    const all = await chunks({ script: says('hey') }, body);
    assert.ok(all.every((chunk) => !('usage' in chunk)));
  });

  test('put together equals the whole: text, usage, log-probabilities, reasons', async () => {
    const cases: { options: TestAppOptions; body: object }[] = [
      { options: {}, body: { seed: 1, max_tokens: 50, n: 4, stop: ['q', 'zz', 'abc'] } },
      { options: { script: says('日本語 und 😀, STOP!') }, body: { stop: 'STOP', n: 2 } },
      { options: { script: says('日本語 und 😀') }, body: { max_tokens: 4 } },
      { options: { script: says('prefix of the stop: ST') }, body: { stop: ['STOP'] } },
      { options: { script: () => [0xff, 0x61, 0xe2, 0x82] }, body: {} },
      { options: { script: () => [] }, body: {} },
    ];
    for (const { options, body } of cases) {
      const asked = { ...hello, ...body, logprobs: true, top_logprobs: 3 };
      const answer = await whole(options, asked);
      const all = await chunks(options, { ...asked, stream_options: { include_usage: true } });
      assert.deepEqual(all.at(-1)!.usage, answer.usage);
      for (const choice of answer.choices) {
        const mine = all.flatMap((chunk) => chunk.choices.filter((one) => one.index === choice.index));
        assert.equal(mine.map((one) => one.delta!.content ?? '').join(''), choice.message!.content);
        assert.deepEqual(
          mine.flatMap((one) => one.logprobs?.content ?? []),
          choice.logprobs!.content,
        );
        assert.deepEqual(
          mine.map((one) => one.finish_reason).filter((reason) => reason !== null),
          [choice.finish_reason],
        );
        assert.equal(mine.at(-1)!.finish_reason, choice.finish_reason);
        assert.equal(mine[0]!.delta!.role, 'assistant');
      }
      const numScored = answer.choices.flatMap((choice) => choice.logprobs!.content!).length;
      assert.equal(numScored, answer.usage!.completion_tokens);
    }
  });

  test('names the adapter as its model', async () => {
    const all = await chunks({ script: says('x'), adapterNames: ['german'] }, { ...hello, model: 'german' });
    assert.ok(all.every((chunk) => chunk.model === 'german'));
  });
});
