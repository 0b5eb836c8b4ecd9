// What the server refuses: one test for each error code it can answer with, each refused parameter, each kind of bad value.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { says } from '../helpers/fake-engine.js';
import { errorOf, jsonOf, testApp, type TestAppOptions } from '../helpers/server-app.js';

const CHAT = '/v1/chat/completions';
const TEXT = '/v1/completions';
const hello = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] };
const prompt = { model: 'tiny', prompt: 'hi' };

async function refused(path: string, body: unknown, options: TestAppOptions = {}) {
  const t = testApp(options);
  const response = await t.post(path, body);
  const error = await errorOf(response);
  assert.deepEqual(Object.keys(error).toSorted(), ['code', 'message', 'param', 'type']);
  assert.equal(t.adapters.numAcquired, t.adapters.numReleased, 'every lease is released');
  return { status: response.status, headers: response.headers, error, ...t };
}

describe('each code', () => {
  test('invalid_value: the whole body', async () => {
    const { status, error } = await refused(CHAT, { ...hello, temperature: 3 });
    assert.equal(status, 400);
    assert.deepEqual(error, {
      message: 'Expected `temperature` to be a number between 0 and 2, got `3`',
      type: 'invalid_request_error',
      param: 'temperature',
      code: 'invalid_value',
    });
  });

  test('invalid_value: not JSON, and not an object', async () => {
    const notJson = await refused(CHAT, '{"model": ');
    assert.equal(notJson.status, 400);
    assert.match(notJson.error.message, /^Expected the request body to be JSON: /);
    const list = await refused(CHAT, '[1]');
    assert.equal(list.error.message, 'Expected the request body to be a JSON object, got `[1]`');
    assert.equal(list.error.param, null);
  });

  test('unsupported_parameter', async () => {
    const { status, error } = await refused(CHAT, { ...hello, include_stop_str_in_output: true });
    assert.equal(status, 400);
    assert.deepEqual(error, {
      message:
        '`include_stop_str_in_output` is not supported; remove `include_stop_str_in_output` from the request',
      type: 'invalid_request_error',
      param: 'include_stop_str_in_output',
      code: 'unsupported_parameter',
    });
  });

  test('context_length_exceeded, by the engine and where nothing is left for an answer', async () => {
    const engine = await refused(TEXT, { ...prompt, max_tokens: 50 }, { contextLength: 40 });
    assert.deepEqual([engine.status, engine.error.code], [400, 'context_length_exceeded']);
    const server = await refused(CHAT, hello, { contextLength: 20 });
    assert.deepEqual([server.status, server.error.code], [400, 'context_length_exceeded']);
    assert.equal(server.error.param, 'messages');
    assert.match(server.error.message, /20 tokens.* have 20/);
  });

  for (const [code, status] of [
    ['invalid_adapter', 400],
    ['unsupported_adapter', 400],
    ['adapter_base_mismatch', 400],
    ['invalid_file', 400],
  ] as const) {
    test(`${code}: an upload that the registry refuses`, async () => {
      const t = testApp();
      t.adapters.failure = new GatewayError(code, 'refused by the registry', {
        param: 'adapter_config.json',
      });
      const form = new FormData();
      form.set('name', 'a');
      form.set('file', new File(['{}'], 'adapter_config.json'));
      const response = await t.post('/v1/adapters', form);
      assert.equal(response.status, status);
      assert.deepEqual(await errorOf(response), {
        message: 'refused by the registry',
        type: 'invalid_request_error',
        param: 'adapter_config.json',
        code,
      });
    });
  }

  test('model_not_found: no fallback to the base, on any route', async () => {
    for (const [path, body] of [
      [CHAT, { ...hello, model: 'nobody' }],
      [TEXT, { ...prompt, model: 'nobody' }],
      ['/tokenize', { model: 'nobody', prompt: 'x' }],
      ['/detokenize', { model: 'nobody', tokens: [] }],
    ] as const) {
      const { status, error, engine } = await refused(path, body);
      assert.deepEqual(
        [status, error.code, error.param, error.type],
        [404, 'model_not_found', 'model', 'not_found_error'],
      );
      assert.equal(engine.requests.length, 0);
    }
  });

  test('model_not_found: a name inside adapters', async () => {
    const { status, error } = await refused(CHAT, { ...hello, adapters: [{ name: 'nobody' }] });
    assert.deepEqual([status, error.code, error.param], [404, 'model_not_found', 'adapters']);
  });

  test('not_found: an unknown route', async () => {
    const response = await testApp().app.request('/v1/nothing');
    assert.equal(response.status, 404);
    assert.deepEqual(await errorOf(response), {
      message: 'No route GET /v1/nothing; GET /openapi.json lists all of them',
      type: 'not_found_error',
      param: null,
      code: 'not_found',
    });
  });

  test('method_not_allowed, with Allow', async () => {
    const t = testApp();
    for (const [path, method, allow] of [
      [CHAT, 'GET', 'POST'],
      ['/v1/models', 'POST', 'GET'],
      ['/v1/adapters', 'PUT', 'GET, POST'],
      ['/v1/adapters/a', 'POST', 'DELETE, GET'],
      ['/v1/models/a/b', 'DELETE', 'GET'],
    ] as const) {
      const response = await t.app.request(path, { method });
      assert.equal(response.status, 405, path);
      assert.equal(response.headers.get('allow'), allow);
      assert.equal((await errorOf(response)).code, 'method_not_allowed');
    }
  });

  test('adapter_exists: the name of the base, not to be retried', async () => {
    const form = new FormData();
    form.set('name', 'tiny');
    form.set('file', new File(['{}'], 'adapter_config.json'));
    const { status, error, headers } = await refused('/v1/adapters', form);
    assert.deepEqual(
      [status, error.code, error.param, error.type],
      [409, 'adapter_exists', 'name', 'conflict_error'],
    );
    assert.equal(headers.get('x-should-retry'), 'false');
  });

  test('payload_too_large: by the declared length, and by counting', async () => {
    const options = { deps: { limits: { maxUploadBytes: 1000 } } };
    const declared = await testApp(options).post(CHAT, '{}', { headers: { 'content-length': '17000000' } });
    assert.deepEqual([declared.status, (await errorOf(declared)).code], [413, 'payload_too_large']);
    const form = new FormData();
    form.set('name', 'a');
    form.set('file', new File(['x'.repeat(2000)], 'a.safetensors'));
    const counted = await refused('/v1/adapters', form, options);
    assert.deepEqual([counted.status, counted.error.code], [413, 'payload_too_large']);
    assert.equal(counted.error.message, 'Expected the request body to be at most 1000 bytes');
    assert.deepEqual(counted.adapters.registered, []);
  });

  test('queue_full: 429 with Retry-After in whole seconds, nothing left running', async () => {
    const { status, error, headers, engine } = await refused(CHAT, { ...hello, n: 3 }, { capacity: 2 });
    assert.deepEqual([status, error.code, error.type], [429, 'queue_full', 'rate_limit_error']);
    assert.equal(headers.get('retry-after'), '3');
    assert.equal(engine.requests.length, 2);
    assert.equal(engine.numRunning, 0);
  });

  test('queue_full releases the adapter', async () => {
    const body = { ...hello, model: 'a', n: 3 };
    const { status, adapters } = await refused(CHAT, body, { capacity: 2, adapterNames: ['a'] });
    assert.equal(status, 429);
    assert.deepEqual([adapters.numAcquired, adapters.numReleased], [1, 1]);
  });

  test('internal_error: our own bug, logged and not told', async () => {
    const t = testApp();
    t.adapters.failure = new Error('secret detail');
    const response = await t.post(CHAT, { ...hello, model: 'a' }, { headers: { 'x-request-id': 'abc' } });
    assert.equal(response.status, 500);
    assert.deepEqual(await errorOf(response), {
      message: 'The server failed to answer this request; its log tells more under request id abc',
      type: 'server_error',
      param: null,
      code: 'internal_error',
    });
    assert.deepEqual(t.logged, ['a request failed']);
  });

  test('engine_failed', async () => {
    const { status, error, engine, logged } = await refused(CHAT, { ...hello, n: 2 }, { failAfter: 3 });
    assert.deepEqual([status, error.code, error.type], [500, 'engine_failed', 'server_error']);
    assert.equal(engine.numRunning, 0);
    assert.deepEqual(logged, ['the engine broke']);
  });

  test('unavailable: not ready, with Retry-After', async () => {
    const t = testApp({ deps: { isReady: () => false } });
    const response = await t.app.request('/ready');
    assert.equal(response.status, 503);
    assert.equal(response.headers.get('retry-after'), '1');
    assert.equal((await errorOf(response)).code, 'unavailable');
  });
});

describe('a parameter that is not honoured is refused by its name', () => {
  const values: Record<string, unknown> = {
    tools: [],
    tool_choice: 'none',
    parallel_tool_calls: true,
    functions: [],
    function_call: 'none',
    audio: {},
    modalities: ['text'],
    prediction: {},
    reasoning_effort: 'low',
    verbosity: 'low',
    web_search_options: {},
    guided_json: {},
    best_of: 1,
    echo: true,
    max_token: 5,
  };
  for (const [name, value] of Object.entries(values)) {
    test(`chat: ${name}`, async () => {
      const { status, error } = await refused(CHAT, { ...hello, [name]: value });
      assert.deepEqual([status, error.code, error.param], [400, 'unsupported_parameter', name]);
    });
  }
  for (const name of ['suffix', 'response_format', 'messages', 'top_logprobs', 'max_completion_tokens']) {
    test(`text: ${name}`, async () => {
      const { status, error } = await refused(TEXT, { ...prompt, [name]: 'x' });
      assert.deepEqual([status, error.code, error.param], [400, 'unsupported_parameter', name]);
    });
  }
  test('inside a message and inside stream_options', async () => {
    const named = await refused(CHAT, { ...hello, messages: [{ role: 'user', content: 'x', name: 'Bob' }] });
    assert.deepEqual([named.error.code, named.error.param], ['unsupported_parameter', 'messages.0.name']);
    const options = { ...hello, stream: true, stream_options: { continuous_usage_stats: true } };
    const { error } = await refused(CHAT, options);
    assert.deepEqual(
      [error.code, error.param],
      ['unsupported_parameter', 'stream_options.continuous_usage_stats'],
    );
  });
  test('tool calling says so, also for its messages', async () => {
    const tools = await refused(CHAT, { ...hello, tools: [] });
    assert.equal(tools.error.message, 'Tool calling is not supported; remove `tools` from the request');
    const role = await refused(CHAT, { ...hello, messages: [{ role: 'tool', content: 'x' }] });
    assert.deepEqual(
      [role.status, role.error.code, role.error.param],
      [400, 'unsupported_parameter', 'messages.0.role'],
    );
    assert.match(role.error.message, /^Tool calling is not supported/);
    const calls = { role: 'assistant', content: null, tool_calls: [{}] };
    const { error } = await refused(CHAT, { ...hello, messages: [calls] });
    assert.deepEqual([error.code, error.param], ['unsupported_parameter', 'messages.0.tool_calls']);
  });
});

describe('a bad value is shown with what was expected', () => {
  const chat: [object, string, string][] = [
    [{ model: undefined }, 'model', 'the name of the base or of an adapter, got `undefined`'],
    [{ model: null }, 'model', 'the name of the base or of an adapter, got `null`'],
    [{ messages: [] }, 'messages', 'a list of one or more messages, got `[]`'],
    [{ messages: 'hi' }, 'messages', 'a list of one or more messages, got `"hi"`'],
    [
      { messages: [{ role: 'robot', content: 'x' }] },
      'messages.0.role',
      'one of "system", "developer", "user", "assistant", got `"robot"`',
    ],
    [
      { messages: [{ role: 'assistant', content: null }] },
      'messages.0.content',
      'a string or a list of {"type": "text", "text": ...}, got `null`',
    ],
    [
      { messages: [{ role: 'user', content: [{ type: 'input_text', text: 'x' }] }] },
      'messages.0.content.0.type',
      '"text", got `"input_text"`',
    ],
    [{ top_p: 1.5 }, 'top_p', 'a number between 0 and 1, got `1.5`'],
    [{ top_k: 2.5 }, 'top_k', 'an integer of at least -1, got `2.5`'],
    [{ min_p: '0' }, 'min_p', 'a number between 0 and 1, got `"0"`'],
    [{ frequency_penalty: 2.1 }, 'frequency_penalty', 'a number between -2 and 2, got `2.1`'],
    [{ presence_penalty: -2.1 }, 'presence_penalty', 'a number between -2 and 2, got `-2.1`'],
    [{ repetition_penalty: 0 }, 'repetition_penalty', 'a number above 0, got `0`'],
    [{ logit_bias: { 5: 101 } }, 'logit_bias.5', 'a number between -100 and 100, got `101`'],
    [{ logit_bias: { 259: 1 } }, 'logit_bias', 'keyed by token ids between 0 and 258, got `"259"`'],
    [{ logit_bias: { '1e1': 1 } }, 'logit_bias', 'keyed by token ids between 0 and 258, got `"1e1"`'],
    [{ stop_token_ids: [1, 259] }, 'stop_token_ids.1', 'a token id between 0 and 258, got `259`'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', 'a string or up to 4 strings, none of them empty, got'],
    [{ stop: '' }, 'stop', 'a string or up to 4 strings, none of them empty, got `""`'],
    [{ stop: ['a', ''] }, 'stop.1', 'a string or up to 4 strings, none of them empty, got `""`'],
    [{ seed: 0.5 }, 'seed', 'an integer'],
    [{ n: 0 }, 'n', 'an integer between 1 and 128, got `0`'],
    [{ n: 129 }, 'n', 'an integer between 1 and 128, got `129`'],
    [{ max_tokens: 0 }, 'max_tokens', 'an integer of at least 1, got `0`'],
    [
      { max_tokens: 1, max_completion_tokens: 2 },
      'max_tokens',
      'absent or equal to `max_completion_tokens` (2), got `1`',
    ],
    [{ min_tokens: 9, max_tokens: 8 }, 'min_tokens', 'at most the number of tokens to generate (8), got `9`'],
    [{ logprobs: 1 }, 'logprobs', 'true or false, got `1`'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs', 'an integer between 0 and 20, got `21`'],
    [{ top_logprobs: 2 }, 'top_logprobs', 'absent unless `logprobs` is true, got `2`'],
    [{ response_format: { type: 'json_object' } }, 'response_format.type', '"text", got `"json_object"`'],
    [{ stream: 'yes' }, 'stream', 'true or false, got `"yes"`'],
    [
      { stream_options: { include_usage: true } },
      'stream_options',
      'absent unless `stream` is true, got `{"include_usage":true}`',
    ],
    [
      { stream: true, stream_options: { include_obfuscation: true } },
      'stream_options.include_obfuscation',
      'false, got `true`',
    ],
    [{ store: true }, 'store', 'false, got `true`'],
    [{ service_tier: 'flex' }, 'service_tier', '"auto" or "default", got `"flex"`'],
    [{ metadata: { a: 1 } }, 'metadata.a', 'a string, got `1`'],
    [{ adapters: [] }, 'adapters', 'a list of one or more {name, scale}, got `[]`'],
    [{ adapters: [{ name: 'a', scale: 'x' }] }, 'adapters.0.scale', 'a finite number, got `"x"`'],
    [{ adapters: [{ name: 'a' }, { name: 'a' }] }, 'adapters.1.name', 'named once, got `"a"`'],
    [
      { model: 'a', adapters: [{ name: 'b' }] },
      'model',
      'the base `tiny` where `adapters` is given, got `"a"`',
    ],
    [
      { chat_template_kwargs: { messages: 1 } },
      'chat_template_kwargs.messages',
      'absent, as the server sets it, got `1`',
    ],
  ];
  for (const [change, param, expectation] of chat) {
    test(`chat: ${JSON.stringify(change)}`, async () => {
      const { status, error, engine } = await refused(
        CHAT,
        { ...hello, ...change },
        { adapterNames: ['a', 'b'] },
      );
      assert.deepEqual([status, error.code, error.param], [400, 'invalid_value', param]);
      assert.ok(error.message.startsWith(`Expected \`${param}\` to be ${expectation}`), error.message);
      assert.equal(engine.requests.length, 0);
    });
  }

  const text: [object, string][] = [
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: [[]] }, 'prompt.0'],
    [{ prompt: [[1], []] }, 'prompt.1'],
    [{ prompt: ['a', 1] }, 'prompt.1'],
    [{ prompt: [1, 'a'] }, 'prompt.1'],
    [{ prompt: [1, 259] }, 'prompt.1'],
    [{ prompt: [[1], [2, 300]] }, 'prompt.1.1'],
    [{ prompt: [-1] }, 'prompt.0'],
    [{ prompt: '' }, 'prompt'],
    [{ prompt: ['a', ''] }, 'prompt.1'],
    [{ logprobs: 6 }, 'logprobs'],
    [{ logprobs: true }, 'logprobs'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ n: 2, best_of: 3 }, 'best_of'],
  ];
  for (const [change, param] of text) {
    test(`text: ${JSON.stringify(change)}`, async () => {
      const { status, error, engine } = await refused(TEXT, { ...prompt, ...change });
      assert.deepEqual([status, error.code, error.param], [400, 'invalid_value', param]);
      assert.match(error.message, /^Expected `[\w.]+` to be .+, got `.*`$/);
      assert.equal(engine.requests.length, 0);
    });
  }

  test('a message that the template refuses', async () => {
    const messages = [{ role: 'user', content: 'refused by the template' }];
    const { status, error } = await refused(
      CHAT,
      { ...hello, model: 'a', messages },
      { adapterNames: ['a'] },
    );
    assert.deepEqual([status, error.code, error.param], [400, 'invalid_value', 'messages']);
  });

  test('a huge value is shown in part', async () => {
    const { error } = await refused(CHAT, { ...hello, n: 'x'.repeat(10_000) });
    assert.ok(error.message.length < 200, String(error.message.length));
  });

  test('a deeply nested body is refused, not crashed on', async () => {
    const deep = `{"model":"tiny","messages":${'['.repeat(50_000)}${']'.repeat(50_000)}}`;
    const { status } = await refused(CHAT, deep);
    assert.equal(status, 400);
  });

  test('a __proto__ key is an unknown parameter like any other', async () => {
    const { status, error } = await refused(
      CHAT,
      '{"model":"tiny","messages":[],"__proto__":{"stream":true}}',
    );
    assert.deepEqual([status, error.code, error.param], [400, 'unsupported_parameter', '__proto__']);
  });
});

describe('headers', () => {
  test('every answer has an id, a time and a version', async () => {
    const t = testApp({ script: says('x') });
    const good = await t.post(CHAT, hello);
    const bad = await t.post(CHAT, {});
    for (const response of [good, bad, await t.app.request('/nothing')]) {
      assert.match(response.headers.get('x-request-id')!, /^req_[0-9a-f]{32}$/);
      assert.equal(response.headers.get('openai-processing-ms'), '0');
      assert.equal(response.headers.get('openai-version'), '2020-10-01');
    }
    assert.equal(good.headers.get('retry-after'), null);
    assert.equal(good.headers.get('x-should-retry'), null);
  });

  test("the client's own id is kept if it is sane", async () => {
    const t = testApp();
    const idFor = async (id: string) =>
      (await t.app.request('/health', { headers: { 'x-request-id': id } })).headers.get('x-request-id')!;
    assert.equal(await idFor('trace-01/a'), 'trace-01/a');
    assert.match(await idFor('two words'), /^req_/);
    assert.match(await idFor('x'.repeat(129)), /^req_/);
  });

  test('the time is that of the clock', async () => {
    const t = testApp();
    const original = t.adapters.list.bind(t.adapters);
    t.adapters.list = async () => {
      t.time.nowMs += 123;
      return original();
    };
    const response = await t.app.request('/v1/models');
    await jsonOf(response);
    assert.equal(response.headers.get('openai-processing-ms'), '123');
  });
});
