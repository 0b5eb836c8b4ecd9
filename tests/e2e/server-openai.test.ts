// The official client against the whole product: models, chat, completions whose log-probabilities are PyTorch's and PEFT's, adapters in
// every form of upload, all kinds of them in one batch, combinations, and refusals.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { BadRequestError, NotFoundError, type OpenAI } from 'openai';
import { adapterFiles } from '../helpers/adapter-fixtures.js';
import { tarGzFile, zipFile } from '../helpers/format-files.js';
import {
  BASE,
  greedyBody,
  greedyTokens,
  NUM_GREEDY,
  referenceCases,
  refusalOf,
  runServer,
  upload,
  uploadAdapter,
  uploadAll,
  type ReferenceCase,
} from '../helpers/running-server.js';

const TOLERANCE = 1e-3;
const SERVED = [
  'dora-all-r8',
  'ia3',
  'loha',
  'lokr',
  'lora-all-r8',
  'lora-bias-all',
  'lora-bias-lora-only',
  'lora-layers',
  'lora-lorabias',
  'lora-mixed',
  'lora-qv-r8',
  'lora-rslora',
  'prefix-8',
  'prefix-8-proj',
  'prompt-8',
  'ptuning-lstm-8',
  'ptuning-mlp-8',
];
/** Adapter -> param of its refusal. */
const REFUSED = {
  lntuning: 'peft_type',
  'lora-embed-lm-head-target': 'target_modules',
  'lora-embed-saved': 'modules_to_save',
  'lora-embed-saved-tied': 'modules_to_save',
  'lora-lm-head-saved': 'modules_to_save',
  'lora-norms-saved': 'modules_to_save',
  'lora-tokens': 'trainable_token_indices',
};
const HELLO = { model: BASE, messages: [{ role: 'user' as const, content: 'hi there' }] };

/** The prompt's and the continuation's tokens and log-probabilities through `echo`. */
async function checkEcho(client: OpenAI, item: ReferenceCase): Promise<void> {
  const answer = await client.completions.create({ ...greedyBody(item.name, item.prompt), echo: true });
  const { token_logprobs: scores, tokens } = answer.choices[0]!.logprobs!;
  assert.equal(scores!.length, item.prompt.length + NUM_GREEDY, item.name);
  assert.equal(scores![0], null, 'nothing comes before the first token');
  const got = scores!.slice(1, item.prompt.length);
  const worst = Math.max(0, ...got.map((value, i) => Math.abs(value - item.logprobs[i]!)));
  assert.equal(got.length, item.logprobs.length, item.name);
  assert(worst <= TOLERANCE, `${item.name}: log-probabilities differ by ${worst}`);
  assert.deepEqual(tokens!.slice(item.prompt.length), item.greedy, item.name);
  assert.equal(answer.usage!.prompt_tokens, item.prompt.length);
  assert.equal(answer.usage!.completion_tokens, NUM_GREEDY);
}

const server = await runServer({ after });
const { client, url } = server;

test('health, readiness, and the one model of an empty registry', async () => {
  assert.deepEqual(await (await fetch(`${url}/health`)).json(), { status: 'ok' });
  assert.deepEqual(await (await fetch(`${url}/ready`)).json(), { status: 'ready' });
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    [BASE],
  );
  assert.deepEqual([...server.progress], [`converting ${BASE}`]);
});

test('chat: streamed equals whole, and is what the template and the completion give', async () => {
  const body = { ...HELLO, temperature: 0, max_completion_tokens: 24, logprobs: true };
  const whole = await client.chat.completions.create(body);
  const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
  const final = await stream.finalChatCompletion();
  assert.equal(whole.choices[0]!.message.role, 'assistant');
  assert.equal(final.choices[0]!.message.content, whole.choices[0]!.message.content);
  assert.deepEqual(final.choices[0]!.logprobs!.content, whole.choices[0]!.logprobs!.content);
  assert.equal(final.choices[0]!.finish_reason, whole.choices[0]!.finish_reason);
  const tokenized = await post('/tokenize', HELLO);
  const { tokens, count }: { tokens: number[]; count: number } = JSON.parse(await tokenized.text());
  assert.equal(whole.usage!.prompt_tokens, count);
  assert.equal(final.usage!.prompt_tokens, count);
  const completion = await client.completions.create({
    model: BASE,
    prompt: tokens,
    max_tokens: 24,
    temperature: 0,
  });
  assert.equal(completion.choices[0]!.text, whole.choices[0]!.message.content);
  assert.equal(completion.usage!.completion_tokens, whole.usage!.completion_tokens);
});

test('sampling: the same seed gives the same text, another seed another', async () => {
  const draw = async (seed: number) => {
    const answer = await client.completions.create({
      model: BASE,
      prompt: [1, 68, 168],
      max_tokens: 24,
      seed,
    });
    return answer.choices[0]!.text;
  };
  const [first, again, other] = await Promise.all([draw(5), draw(5), draw(6)]);
  assert.equal(again, first);
  assert.notEqual(other, first);
});

test("the base's log-probabilities are PyTorch's", async () => {
  for (const item of referenceCases(BASE)) await checkEcho(client, item);
});

test('an upload as files, as .zip and as .tar.gz is the same adapter', async () => {
  const files = [...adapterFiles(BASE, 'lora-all-r8')].filter(([name]) => name.startsWith('adapter_'));
  const entries = files.map(([name, data]) => ({ name: `lora/${name}`, data }));
  const hashes: string[] = [];
  for (const [name, parts] of [
    ['as-files', new Map(files)],
    ['as-zip', new Map([['lora.zip', zipFile(entries)]])],
    ['as-tar', new Map([['lora.tar.gz', await tarGzFile(entries)]])],
  ] as const) {
    const response = await upload(url, name, parts);
    const text = await response.text();
    assert.equal(response.status, 201, text);
    assert.equal(response.headers.get('location'), `/v1/adapters/${name}`);
    const adapter: { hash: string; version: number; served_as: string } = JSON.parse(text);
    assert.deepEqual([adapter.version, adapter.served_as], [1, 'lora']);
    hashes.push(adapter.hash);
    for (const item of referenceCases('lora-all-r8')) await checkEcho(client, { ...item, name });
  }
  assert.equal(new Set(hashes).size, 1);
  for (const name of ['as-files', 'as-zip', 'as-tar'])
    assert.equal((await fetch(`${url}/v1/adapters/${name}`, { method: 'DELETE' })).status, 200);
});

test("every kind of adapter: log-probabilities are PEFT's, alone and all in one batch", async () => {
  await uploadAll(url, SERVED);
  const cases = [BASE, ...SERVED].flatMap(referenceCases);
  for (const item of cases) await checkEcho(client, item);
  const mixed = await Promise.all(cases.map(({ name, prompt }) => greedyTokens(client, name, prompt)));
  mixed.forEach((tokens, i) => assert.deepEqual(tokens, cases[i]!.greedy, `${cases[i]!.name} mixed`));
});

test('models: the base first, then the adapters with parent and root', async () => {
  const models: (OpenAI.Model & { parent?: string | null; root?: string })[] = (await client.models.list())
    .data;
  assert.deepEqual(
    models.map(({ id }) => id),
    [BASE, ...SERVED],
  );
  assert.deepEqual([models[0]!.parent, models[0]!.root], [null, BASE]);
  const listed: { data: { name: string; hash: string }[] } = JSON.parse(
    await (await fetch(`${url}/v1/adapters`)).text(),
  );
  const hashOf = new Map(listed.data.map(({ name, hash }) => [name, hash]));
  for (const { id, parent, root } of models.slice(1))
    assert.deepEqual([parent, root], [BASE, `sha256:${hashOf.get(id)}`]);
  assert.equal((await client.models.retrieve('prefix-8')).id, 'prefix-8');
});

test('`adapters` adds LoRAs up: two halves of one are the whole', async () => {
  await uploadAdapter(url, 'twin', 'lora-all-r8');
  const half = 0.5;
  const parts = [
    { name: 'lora-all-r8', scale: half },
    { name: 'twin', scale: half },
  ];
  for (const { prompt, greedy, logprobs } of referenceCases('lora-all-r8')) {
    const body = { ...greedyBody(BASE, prompt), echo: true, adapters: parts };
    const answer = await client.completions.create(body);
    const { tokens, token_logprobs: scores } = answer.choices[0]!.logprobs!;
    assert.deepEqual(tokens!.slice(prompt.length), greedy);
    const got = scores!.slice(1, prompt.length);
    const worst = Math.max(...got.map((value, i) => Math.abs(value - logprobs[i]!)));
    assert(worst <= TOLERANCE, `log-probabilities differ by ${worst}`);
  }
  await fetch(`${url}/v1/adapters/twin`, { method: 'DELETE' });
});

test('`adapters` with scale 0 is the base', async () => {
  const [{ prompt, greedy }] = referenceCases(BASE) as [ReferenceCase];
  const body = { ...greedyBody(BASE, prompt), adapters: [{ name: 'lora-all-r8', scale: 0 }] };
  assert.deepEqual((await client.completions.create(body)).choices[0]!.logprobs!.tokens, greedy);
});

test('`adapters` with one that is no plain LoRA is refused', async () => {
  for (const name of ['prefix-8', 'dora-all-r8']) {
    const body = { ...greedyBody(BASE, [1, 2]), adapters: [{ name, scale: 0.5 }, { name: 'lora-qv-r8' }] };
    await assert.rejects(client.completions.create(body), (error) => {
      assert(error instanceof BadRequestError);
      assert.deepEqual([error.code, error.param], ['unsupported_adapter', 'adapters']);
      return true;
    });
  }
});

for (const [adapter, param] of Object.entries(REFUSED))
  test(`${adapter} is refused for its ${param} and not registered`, async () => {
    const response = await uploadAdapter(url, `no-${adapter}`, adapter);
    const error = await refusalOf(response);
    assert.deepEqual([response.status, error.code, error.param], [400, 'unsupported_adapter', param]);
    assert.match(error.message, new RegExp(`\`${param}\``));
    assert.equal((await fetch(`${url}/v1/adapters/no-${adapter}`)).status, 404);
  });

test('an adapter of another base is refused', async () => {
  const response = await upload(url, 'stranger', adapterFiles('gemma3-text', 'lora-qv-r8'));
  const error = await refusalOf(response);
  assert.deepEqual([response.status, error.code], [400, 'adapter_base_mismatch']);
});

test("the base's name and an unknown one", async () => {
  const response = await uploadAdapter(url, BASE, 'lora-qv-r8');
  const error = await refusalOf(response);
  assert.deepEqual([response.status, error.code], [409, 'adapter_exists']);
  await assert.rejects(client.chat.completions.create({ ...HELLO, model: 'nobody' }), NotFoundError);
});

test('a request longer than the context is refused with its size', async () => {
  const contextLength = 256;
  const refused = (error: unknown): true => {
    assert(error instanceof BadRequestError);
    assert.equal(error.code, 'context_length_exceeded');
    assert.match(error.message, /256 tokens/);
    return true;
  };
  const prompt = Array.from({ length: contextLength - 8 }, () => 68);
  await assert.rejects(client.completions.create({ model: BASE, prompt, max_tokens: 9 }), refused);
  const fits = await client.completions.create({ ...greedyBody(BASE, prompt), max_tokens: 8 });
  assert.equal(fits.usage!.completion_tokens, 8);
  const withPrefix = { ...greedyBody('prefix-8', prompt), max_tokens: 8 };
  await assert.rejects(client.completions.create(withPrefix), refused);
  const chat = { model: BASE, messages: [{ role: 'user' as const, content: 'word '.repeat(300) }] };
  await assert.rejects(client.chat.completions.create(chat), refused);
});

test('nothing was logged as an error', () => {
  assert.deepEqual(
    server.log.filter((line) => line.startsWith('error')),
    [],
  );
});

function post(path: string, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
}
