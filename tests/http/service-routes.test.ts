// Models, tokens, probes, the OpenAPI document and the metrics over fakes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BOS, bytesOf, TURN_END, TURN_START } from '../helpers/byte-tokenizer.js';
import { says } from '../helpers/fake-engine.js';
import { errorOf, jsonOf, NOW_MS, testApp } from '../helpers/server-app.js';

const baseCard = {
  id: 'tiny',
  object: 'model',
  created: 1_690_000_000,
  owned_by: 'local',
  root: 'hub/tiny',
  parent: null,
  permission: [],
  max_model_len: 4096,
  weights: 'q4',
  base_hash: '0123456789abcdef',
};
const germanCard = {
  id: 'german',
  object: 'model',
  created: 1_700_000_000,
  owned_by: 'local',
  root: 'sha256:hash-of-german',
  parent: 'tiny',
  permission: [],
  max_model_len: 4096,
};

describe('models', () => {
  test('the base first, then the adapters', async () => {
    const { app } = testApp({ adapterNames: ['german'] });
    assert.deepEqual(await jsonOf(await app.request('/v1/models')), {
      object: 'list',
      data: [baseCard, germanCard],
    });
  });

  test('one by its id', async () => {
    const { app } = testApp({ adapterNames: ['german'] });
    assert.deepEqual(await jsonOf(await app.request('/v1/models/tiny')), baseCard);
    assert.deepEqual(await jsonOf(await app.request('/v1/models/german')), germanCard);
    const missing = await app.request('/v1/models/nobody');
    const error = await errorOf(missing);
    assert.deepEqual([missing.status, error.code, error.param], [404, 'model_not_found', 'model']);
  });

  test('max_model_len is what both the base and a slot hold', async () => {
    const { app } = testApp({ contextLength: 100_000 });
    const card = await jsonOf<{ max_model_len: number }>(await app.request('/v1/models/tiny'));
    assert.equal(card.max_model_len, 8192);
  });
});

describe('tokens', () => {
  test('tokenize a text, with or without the special tokens in front', async () => {
    const { post } = testApp({ bos: true });
    const all = await jsonOf(await post('/tokenize', { model: 'tiny', prompt: 'hé' }));
    assert.deepEqual(all, { count: 4, max_model_len: 4096, tokens: [BOS, ...bytesOf('hé')] });
    const bare = await jsonOf(await post('/tokenize', { prompt: 'hé', add_special_tokens: false }));
    assert.deepEqual(bare, { count: 3, max_model_len: 4096, tokens: bytesOf('hé') });
    const empty = await jsonOf(await post('/tokenize', { prompt: '', add_special_tokens: false }));
    assert.deepEqual(empty, { count: 0, max_model_len: 4096, tokens: [] });
  });

  test('tokenize messages', async () => {
    const { post } = testApp({ bos: true });
    const messages = [{ role: 'user', content: 'x' }];
    const turn = [TURN_START, ...bytesOf('user\nx'), TURN_END];
    const whole = await jsonOf<{ tokens: number[] }>(await post('/tokenize', { messages }));
    assert.deepEqual(whole.tokens, [...turn, TURN_START, ...bytesOf('assistant\n')]);
    const bare = await post('/tokenize', {
      messages,
      add_generation_prompt: false,
      add_special_tokens: false,
    });
    assert.deepEqual((await jsonOf<{ tokens: number[] }>(bare)).tokens, turn);
  });

  test('detokenize gives special tokens too', async () => {
    const { post } = testApp();
    const response = await post('/detokenize', { tokens: [BOS, ...bytesOf('hé')] });
    assert.deepEqual(await jsonOf(response), { prompt: '<bos>hé' });
  });

  test('refusals', async () => {
    const { post } = testApp();
    const messages = [{ role: 'user', content: 'x' }];
    for (const [path, body, code, param] of [
      ['/tokenize', {}, 'invalid_value', 'prompt'],
      ['/tokenize', { prompt: 'x', messages }, 'invalid_value', 'prompt'],
      ['/tokenize', { messages, add_special_tokens: true }, 'invalid_value', 'add_special_tokens'],
      ['/tokenize', { prompt: 'x', add_generation_prompt: true }, 'invalid_value', 'add_generation_prompt'],
      ['/tokenize', { prompt: 'x', return_token_strs: true }, 'unsupported_parameter', 'return_token_strs'],
      ['/detokenize', { tokens: [1, 259] }, 'invalid_value', 'tokens.1'],
      ['/detokenize', { tokens: 'x' }, 'invalid_value', 'tokens'],
    ] as const) {
      const response = await post(path, body);
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [400, code, param]);
    }
  });
});

describe('probes', () => {
  test('health and ready', async () => {
    let isReady = false;
    const { app } = testApp({ deps: { isReady: () => isReady } });
    assert.equal((await app.request('/health')).status, 200);
    assert.equal((await app.request('/ready')).status, 503);
    isReady = true;
    const ready = await app.request('/ready');
    assert.deepEqual([ready.status, await jsonOf(ready)], [200, { status: 'ready' }]);
  });

  test('the OpenAPI document names every route and the fields of a body', async () => {
    const { app } = testApp({ deps: { runtimeLora: { folder: '/nowhere' } } });
    interface Document {
      openapi: string;
      paths: Record<
        string,
        Record<string, { requestBody?: { content: Record<string, { schema: object }> } }>
      >;
    }
    const document = await jsonOf<Document>(await app.request('/openapi.json'));
    assert.equal(document.openapi, '3.1.0');
    assert.deepEqual(
      Object.entries(document.paths).map(([path, methods]) => `${Object.keys(methods).join(',')} ${path}`),
      [
        'post /v1/chat/completions',
        'post /v1/completions',
        'get /v1/models',
        'get /v1/models/{model}',
        'post /tokenize',
        'post /detokenize',
        'post,get /v1/adapters',
        'put,delete /v1/adapters/{name}/shares/{tenant}',
        'post /v1/adapters/{name}/rollback',
        'get,delete /v1/adapters/{name}',
        'get /v1/aliases',
        'put,get,delete /v1/aliases/{alias}',
        'post /v1/load_lora_adapter',
        'post /v1/unload_lora_adapter',
        'post,get /v1/files',
        'get,delete /v1/files/{file}',
        'get /v1/files/{file}/content',
        'post,get /v1/fine_tuning/jobs',
        'get /v1/fine_tuning/jobs/{job}',
        'post /v1/fine_tuning/jobs/{job}/cancel',
        'post /v1/fine_tuning/jobs/{job}/pause',
        'post /v1/fine_tuning/jobs/{job}/resume',
        'get /v1/fine_tuning/jobs/{job}/events',
        'get /v1/fine_tuning/jobs/{job}/checkpoints',
        'post,get /v1/admin/tenants',
        'get,put,delete /v1/admin/tenants/{tenant}',
        'post,get /v1/admin/keys',
        'post /v1/admin/keys/{key}/rotate',
        'delete /v1/admin/keys/{key}',
        'get /v1/admin/usage',
        'get /health',
        'get /ready',
        'get /metrics',
      ],
    );
    const body = document.paths['/v1/chat/completions']!['post']!.requestBody!.content['application/json']!;
    const schema = JSON.stringify(body.schema);
    for (const field of ['messages', 'temperature', 'adapters', 'top_logprobs']) {
      assert.ok(schema.includes(`"${field}"`), field);
    }
    assert.ok(document.paths['/v1/adapters']!['post']!.requestBody!.content['multipart/form-data']);
    const job = document.paths['/v1/fine_tuning/jobs']!['post']!.requestBody!.content['application/json']!;
    for (const field of ['training_file', 'n_epochs', 'lora_rank', 'sample_prompts'])
      assert.ok(JSON.stringify(job.schema).includes(`"${field}"`), field);
  });
});

describe('metrics', () => {
  const CHAT = '/v1/chat/completions';
  const hello = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] };

  async function seriesOf(app: ReturnType<typeof testApp>['app']): Promise<Map<string, number>> {
    const response = await app.request('/metrics');
    assert.match(response.headers.get('content-type')!, /^text\/plain/);
    const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(
      lines.map((line) => {
        const cut = line.lastIndexOf(' ');
        return [line.slice(0, cut), Number(line.slice(cut + 1))];
      }),
    );
  }

  const family = (series: ReadonlyMap<string, number>, name: string) =>
    [...series].filter(([key]) => key === name || key.startsWith(`${name}{`));

  test('one series for each gauge that an endpoint picker reads', async () => {
    const { app } = testApp({ stats: { numRunning: 3, numWaiting: 2, kvUsage: 0.5 } });
    const series = await seriesOf(app);
    const label = '{model_name="tiny"}';
    assert.deepEqual(family(series, 'vllm:num_requests_running'), [[`vllm:num_requests_running${label}`, 3]]);
    assert.deepEqual(family(series, 'vllm:num_requests_waiting'), [[`vllm:num_requests_waiting${label}`, 2]]);
    assert.deepEqual(family(series, 'vllm:kv_cache_usage_perc'), [[`vllm:kv_cache_usage_perc${label}`, 0.5]]);
  });

  test('the cache counters are the engine’s own, whenever they are scraped', async () => {
    const { app } = testApp();
    for (let scrape = 0; scrape < 2; scrape++) {
      const series = await seriesOf(app);
      assert.deepEqual(
        family(series, 'vllm:prefix_cache_queries_total').map(([, value]) => value),
        [100],
      );
      assert.deepEqual(
        family(series, 'vllm:prefix_cache_hits_total').map(([, value]) => value),
        [40],
      );
    }
  });

  test('residency: one series with the names, the time as its value, none left behind', async () => {
    const t = testApp({
      adapterNames: ['german', 'french'],
      stats: { waitingAdapters: ['hash-of-german'], activeAdapters: ['hash-of-french'] },
    });
    const info = 'vllm:lora_requests_info';
    assert.deepEqual(family(await seriesOf(t.app), info), [
      [
        `${info}{max_lora="16",running_lora_adapters="french,german",waiting_lora_adapters="german"}`,
        NOW_MS / 1000,
      ],
    ]);
    const loaded = 'vllm:lora_adapter_loaded';
    assert.deepEqual(family(await seriesOf(t.app), loaded), [
      [`${loaded}{adapter_name="german",level="loaded",pinned="false"}`, 1],
      [`${loaded}{adapter_name="french",level="active",pinned="false"}`, 1],
    ]);
    await t.adapters.remove('german');
    t.time.nowMs += 5000;
    const later = await seriesOf(t.app);
    assert.deepEqual(family(later, info), [
      [`${info}{max_lora="16",running_lora_adapters="french",waiting_lora_adapters=""}`, NOW_MS / 1000 + 5],
    ]);
    assert.equal(family(later, loaded).length, 1);
  });

  test('every sequence ends in one counted outcome, tokens and times are counted', async () => {
    const t = testApp({ script: (_, index) => bytesOf('abcdefgh'.slice(0, 2 + index)) });
    await t.post(CHAT, hello);
    await t.post(CHAT, { ...hello, n: 2, max_tokens: 3 });
    await (await t.post(CHAT, { ...hello, stream: true, stop: 'c' })).text();
    const series = await seriesOf(t.app);
    const outcome = (reason: string) =>
      series.get(`vllm:request_success_total{model_name="tiny",finished_reason="${reason}"}`);
    assert.deepEqual([outcome('stop'), outcome('length'), outcome('abort'), outcome('error')], [2, 2, 0, 0]);
    assert.equal(series.get('vllm:prompt_tokens_total{model_name="tiny"}'), 4 * 20);
    assert.equal(series.get('vllm:generation_tokens_total{model_name="tiny"}'), 2 + 3 + 3 + 3);
    for (const name of ['time_to_first_token', 'time_per_output_token', 'e2e_request_latency']) {
      assert.equal(series.get(`vllm:${name}_seconds_count{model_name="tiny"}`), 4, name);
    }
  });

  test('times come from the clock', async () => {
    const t = testApp({ freeTokens: 0, script: says('abc') });
    const pending = t.post(CHAT, hello);
    await t.engine.until(() => t.engine.numRunning === 1);
    t.time.nowMs += 200;
    for (let token = 0; token < 4; token++) {
      const before = t.engine.numSteps;
      t.engine.step();
      await t.engine.until(() => t.engine.numSteps > before);
      t.time.nowMs += 30;
    }
    await pending;
    const series = await seriesOf(t.app);
    const sum = (name: string) => series.get(`vllm:${name}_seconds_sum{model_name="tiny"}`)!.toFixed(3);
    assert.equal(sum('time_to_first_token'), '0.200');
    assert.equal(sum('time_per_output_token'), '0.030');
    assert.equal(sum('e2e_request_latency'), '0.290');
  });

  test('HTTP requests by route pattern and status', async () => {
    const t = testApp({ script: says('x'), adapterNames: ['german'] });
    await t.post(CHAT, hello);
    await t.post(CHAT, {});
    await t.app.request('/v1/adapters/german');
    await t.app.request('/v1/adapters/nobody');
    await t.app.request('/v1/some/nonsense');
    await t.app.request(CHAT);
    const series = await seriesOf(t.app);
    const count = (route: string, method: string, status: number) =>
      series.get(`http_requests_total{route="${route}",method="${method}",status="${status}"}`);
    assert.equal(count(CHAT, 'POST', 200), 1);
    assert.equal(count(CHAT, 'POST', 400), 1);
    assert.equal(count(CHAT, 'GET', 405), 1);
    assert.equal(count('/v1/adapters/:name{.+}', 'GET', 200), 1);
    assert.equal(count('/v1/adapters/:name{.+}', 'GET', 404), 1);
    assert.equal(count('unmatched', 'GET', 404), 1);
  });

  test('the process speaks too', async () => {
    const series = await seriesOf(testApp().app);
    assert.ok(series.has('process_resident_memory_bytes'));
    assert.ok(series.has('nodejs_eventloop_lag_seconds'));
  });
});
