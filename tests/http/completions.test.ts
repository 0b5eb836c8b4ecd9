// POST /v1/completions over a fake engine: prompts of all four shapes, echo, log-probabilities, streaming against whole.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BOS, bytesOf, TURN_START } from '../helpers/byte-tokenizer.js';
import { says, UNIFORM_LOGPROB } from '../helpers/fake-engine.js';
import {
  chunksOf,
  jsonOf,
  NOW_MS,
  testApp,
  type TestAppOptions,
  type WireAnswer,
} from '../helpers/server-app.js';

const PATH = '/v1/completions';

async function whole(options: TestAppOptions, body: object): Promise<WireAnswer> {
  const response = await testApp(options).post(PATH, { model: 'tiny', ...body });
  assert.equal(response.status, 200, await response.clone().text());
  return jsonOf(response);
}

async function chunks(options: TestAppOptions, body: object): Promise<WireAnswer[]> {
  const response = await testApp(options).post(PATH, { model: 'tiny', ...body, stream: true });
  assert.equal(response.status, 200);
  return chunksOf(await response.text());
}

describe('a whole answer', () => {
  test('has the shape of a text_completion, 16 tokens by default', async () => {
    const answer = await whole({ script: says('abcdefghijklmnopqrstuvwxyz') }, { prompt: 'say' });
    assert.match(answer.id, /^cmpl-[0-9a-f]{32}$/);
    assert.deepEqual(answer, {
      id: answer.id,
      object: 'text_completion',
      created: NOW_MS / 1000,
      model: 'tiny',
      system_fingerprint: 'fp_0123456789ab',
      choices: [{ index: 0, text: 'abcdefghijklmnop', logprobs: null, finish_reason: 'length' }],
      usage: {
        prompt_tokens: 3,
        completion_tokens: 16,
        total_tokens: 19,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  test('takes a string, strings, token ids and lists of token ids', async () => {
    const cases: [unknown, number[][]][] = [
      ['ab', [[BOS, 97, 98]]],
      [
        ['ab', 'c'],
        [
          [BOS, 97, 98],
          [BOS, 99],
        ],
      ],
      [[97, 98], [[97, 98]]],
      [
        [[97], [98, TURN_START]],
        [[97], [98, TURN_START]],
      ],
    ];
    for (const [prompt, expected] of cases) {
      const t = testApp({ script: says('x'), bos: true });
      const response = await t.post(PATH, { model: 'tiny', prompt });
      assert.equal(response.status, 200);
      await response.text();
      assert.deepEqual(
        t.engine.requests.map((request) => request.promptTokens),
        expected,
      );
    }
  });

  test('choice i of prompt p has index p * n + i; every prompt counts once', async () => {
    const script = (_: unknown, index: number) => bytesOf(String(index));
    const answer = await whole({ script }, { prompt: ['aa', 'bbb'], n: 2, best_of: 2, seed: 3 });
    assert.deepEqual(
      answer.choices.map((choice) => [choice.index, choice.text]),
      [
        [0, '0'],
        [1, '1'],
        [2, '2'],
        [3, '3'],
      ],
    );
    assert.deepEqual([answer.usage!.prompt_tokens, answer.usage!.completion_tokens], [5, 4]);
  });

  test('log-probabilities are parallel lists with offsets; the token itself is always among the alternatives', async () => {
    const answer = await whole({ script: says('xé') }, { prompt: 'p', logprobs: 2 });
    const u = UNIFORM_LOGPROB;
    assert.deepEqual(answer.choices[0]!.logprobs, {
      tokens: ['x', 'bytes:\\xc3', 'bytes:\\xa9'],
      token_logprobs: [u, u, u],
      top_logprobs: [
        { a: u, b: u, x: u },
        { a: u, b: u, 'bytes:\\xc3': u },
        { a: u, b: u, 'bytes:\\xa9': u },
      ],
      text_offset: [0, 1, 1],
    });
  });
});

describe('echo', () => {
  test('gives the prompt back in front of the answer', async () => {
    const answer = await whole(
      { script: says(' world'), bos: true },
      { prompt: ['hello', 'big'], echo: true },
    );
    assert.deepEqual(
      answer.choices.map((choice) => choice.text),
      ['hello world', 'big world'],
    );
  });

  test('with logprobs scores the prompt, whose first token has none', async () => {
    const t = testApp({ script: says('z') });
    const body = { model: 'tiny', prompt: [97, TURN_START, 98], echo: true, logprobs: 1, max_tokens: 1 };
    const answer = await jsonOf(await t.post(PATH, body));
    const u = UNIFORM_LOGPROB;
    assert.equal(t.engine.requests[0]!.promptLogprobs, true);
    assert.equal(answer.choices[0]!.text, 'abz');
    assert.deepEqual(answer.choices[0]!.logprobs, {
      tokens: ['a', '<start>', 'b', 'z'],
      token_logprobs: [null, u, u, u],
      top_logprobs: [null, { a: u, '<start>': u }, { a: u, b: u }, { a: u, z: u }],
      text_offset: [0, 1, 1, 2],
    });
  });

  test('with max_tokens 0 only scores the prompt', async () => {
    const body = { prompt: 'abc', echo: true, logprobs: 0, max_tokens: 0 };
    const answer = await whole({}, body);
    assert.equal(answer.choices[0]!.text, 'abc');
    assert.equal(answer.choices[0]!.finish_reason, 'length');
    assert.deepEqual(answer.choices[0]!.logprobs!.tokens, ['a', 'b', 'c']);
    assert.deepEqual(answer.choices[0]!.logprobs!.text_offset, [0, 1, 2]);
    assert.equal(answer.usage!.completion_tokens, 0);
  });

  test('without logprobs does not ask the engine to score the prompt', async () => {
    const t = testApp({ script: says('z') });
    await t.post(PATH, { model: 'tiny', prompt: 'a', echo: true });
    assert.equal(t.engine.requests[0]!.promptLogprobs, false);
  });
});

describe('a stream', () => {
  test('has the shape of text_completion chunks', async () => {
    const all = await chunks(
      { script: says('xy') },
      { prompt: 'p', stream_options: { include_usage: true } },
    );
    const head = {
      id: all[0]!.id,
      object: 'text_completion',
      created: NOW_MS / 1000,
      model: 'tiny',
      system_fingerprint: 'fp_0123456789ab',
    };
    const chunk = (text: string, finishReason: string | null = null) => ({
      ...head,
      choices: [{ index: 0, text, logprobs: null, finish_reason: finishReason }],
      usage: null,
    });
    const usage = {
      prompt_tokens: 1,
      completion_tokens: 2,
      total_tokens: 3,
      prompt_tokens_details: { cached_tokens: 0 },
    };
    assert.deepEqual(all, [chunk('x'), chunk('y'), chunk('', 'stop'), { ...head, choices: [], usage }]);
  });

  test('put together equals the whole', async () => {
    const cases: { options: TestAppOptions; body: object }[] = [
      { options: {}, body: { prompt: ['one', 'two'], n: 2, seed: 9, max_tokens: 30, stop: ['e', 'th'] } },
      { options: { script: says('é END'), bos: true }, body: { prompt: 'ü', echo: true, stop: 'END' } },
      { options: {}, body: { prompt: [[1, 200], [97]], echo: true, max_tokens: 0 } },
    ];
    for (const { options, body } of cases) {
      const asked = { ...body, logprobs: 2 };
      const answer = await whole(options, asked);
      const all = await chunks(options, { ...asked, stream_options: { include_usage: true } });
      assert.deepEqual(all.at(-1)!.usage, answer.usage);
      for (const choice of answer.choices) {
        const mine = all.flatMap((chunk) => chunk.choices.filter((one) => one.index === choice.index));
        assert.equal(mine.map((one) => one.text).join(''), choice.text);
        for (const list of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const) {
          assert.deepEqual(
            mine.flatMap((one): unknown[] => [...(one.logprobs?.[list] ?? [])]),
            choice.logprobs![list],
          );
        }
        assert.equal(mine.at(-1)!.finish_reason, choice.finish_reason);
      }
    }
  });
});
