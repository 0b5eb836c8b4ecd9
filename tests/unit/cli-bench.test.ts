// The benchmark without a machine: statistics, the load's requests, ratios and tables over made-up figures, and the options.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { closedLoop, LoadClient, type Answer } from '../../src/cli/bench/load-client.js';
import { parseMetrics, sumOf } from '../../src/cli/bench/metrics-text.js';
import { sharedDecodeRate } from '../../src/cli/bench/rates.js';
import { changedAdapter, randomAdapter } from '../../src/cli/bench/random-adapter.js';
import { markdown, ratiosOf, table, type BenchReport } from '../../src/cli/bench/report.js';
import { chatBody, summarize } from '../../src/cli/bench/scenario-run.js';
import { serveFlags } from '../../src/cli/bench/server-process.js';
import { judge, readSample, type SoakSample } from '../../src/cli/bench/soak.js';
import { jain, median, percentile, ratio, slope } from '../../src/cli/bench/statistics.js';
import { loraTarget, modelTarget, parsePeer } from '../../src/cli/bench/target.js';
import { judgeTenants, tenantMarkdown, type TenantTally } from '../../src/cli/bench/tenant-report.js';
import { withFreshState } from '../../src/cli/bench/tenant-state.js';
import {
  adapterPicks,
  NUM_ADAPTERS,
  pickWeighted,
  scenarios,
  tokenIds,
  userText,
} from '../../src/cli/bench/workload.js';
import { runCli } from '../../src/cli/program.js';
import { readConfig } from '../../src/cli/read-config.js';
import { GatewayError } from '../../src/errors.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';

test('percentiles lie linearly between the nearest ranks', () => {
  assert.equal(percentile([], 50), null);
  assert.equal(percentile([7], 95), 7);
  assert.equal(percentile([40, 10, 30, 20], 50), 25);
  assert.equal(percentile([40, 10, 30, 20], 95), 38.5);
  assert.equal(median([3, 1, 2]), 2);
});

test('ratios and slopes', () => {
  assert.equal(ratio(3, 2), 1.5);
  assert.equal(ratio(null, 2), null);
  assert.equal(ratio(2, null), null);
  assert.equal(ratio(2, 0), null);
  assert.equal(
    slope([
      [0, 1],
      [10, 21],
      [20, 41],
    ]),
    2,
  );
  assert.equal(slope([[5, 1]]), 0);
});

test("Jain's index is 1 for equal shares and 1 / n where one has all", () => {
  assert.equal(jain([3, 3, 3]), 1);
  assert.equal(jain([5, 0, 0, 0]), 0.25);
  assert.equal(jain([0, 0]), null);
  assert.equal(jain([]), null);
});

test('a shared decode rate counts only the time in which all rows decode', () => {
  const answer = (pieceMs: number[], numTokens: number): Answer => ({
    startMs: 0,
    endMs: pieceMs.at(-1) ?? 0,
    pieceMs,
    numTokens,
    numCachedTokens: 0,
    model: null,
  });
  // Both decode from 200 to 400 ms: two pieces of one token, and one piece of two.
  const answers = [answer([100, 200, 300, 400], 4), answer([200, 400, 500], 6)];
  assert.equal(sharedDecodeRate(answers), 4 / 0.2);
  assert.equal(sharedDecodeRate([answer([1, 2], 2), answer([3, 4], 2)]), null);
  assert.equal(sharedDecodeRate([answer([], 1)]), null);
});

test('the load is seeded, and no two prompts begin alike', () => {
  assert.equal(userText(1, 2), userText(1, 2));
  assert.notEqual(userText(1, 2), userText(2, 2));
  assert.notEqual(userText(1, 2), userText(1, 3));
  assert.equal(userText(0, 0).split(' ').length, 91 + 8);
  assert.deepEqual(tokenIds(3, 4, 100), tokenIds(3, 4, 100));
  assert(tokenIds(3, 1000, 50).every((id) => id >= 0 && id < 50));
});

test('adapters in turn, and by popularity', () => {
  assert.deepEqual(adapterPicks('base', 2, 0), [null, null]);
  assert.deepEqual(adapterPicks('round robin', 10, 0), [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
  const counts = Array.from({ length: NUM_ADAPTERS }, () => 0);
  for (const pick of adapterPicks('zipf', 20_000, 1)) counts[pick!]!++;
  const harmonic = counts.reduce((sum, _, k) => sum + 1 / (k + 1), 0);
  counts.forEach((count, k) => {
    const expected = 20_000 / (k + 1) / harmonic;
    assert(Math.abs(count - expected) < 5 * Math.sqrt(expected), `adapter ${k}: ${count}, not ${expected}`);
  });
});

test('a weighted pick', () => {
  const items = [1, 0, 3].map((weight, index) => ({ weight, index }));
  assert.deepEqual(
    [0, 0.24, 0.26, 0.999999].map((uniform) => pickWeighted(uniform, items).index),
    [0, 0, 2, 2],
  );
});

test('targets say the adapter as their server wants it', () => {
  const own = modelTarget('own', 'http://own', 'the-base', (i) => `a-${i}`);
  assert.deepEqual([own.choose(null), own.choose(3)], [{ model: 'the-base' }, { model: 'a-3' }]);
  const peer = loraTarget('peer', 'http://peer');
  assert.deepEqual(peer.choose(3), { model: 'base', lora: [{ id: 3, scale: 1 }] });
  assert.deepEqual(
    peer.choose(null)['lora'],
    [0, 1, 2, 3, 4, 5, 6, 7].map((id) => ({ id, scale: 0 })),
  );
  const body = chatBody(own, 3, 1, 2, 128);
  assert.equal(body['model'], 'a-3');
  assert.equal(body['max_tokens'], 128);
  assert.equal(body['ignore_eos'], true);
});

test('a peer is NAME=URL', () => {
  assert.deepEqual(parsePeer('llama.cpp=http://h:1/?a=b'), { name: 'llama.cpp', url: 'http://h:1/?a=b' });
  assert.deepEqual(parsePeer('x=http://h:1//'), { name: 'x', url: 'http://h:1' });
  for (const bad of ['http://h:1', '=http://h', 'x=', 'x=h:1', 'x=https://h'])
    assert.throws(
      () => parsePeer(bad),
      (error) =>
        error instanceof GatewayError && error.code === 'invalid_config' && error.message.includes(bad),
    );
});

const TINY = smallArchitecture({
  hiddenSize: 8,
  numLayers: 1,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  intermediateSize: 12,
  vocabSize: 32,
  contextLength: 64,
});

test('a random adapter is a PEFT folder over all seven projections', () => {
  const files = randomAdapter(TINY, 1);
  const config: unknown = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')));
  assert.deepEqual(config, {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: 16,
    lora_alpha: 16,
    lora_dropout: 0,
    bias: 'none',
    target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  });
  const weights = files.get('adapter_model.safetensors')!;
  const { tensors } = readSafetensorsHeader(bytesSource('adapter', weights));
  assert.equal(tensors.size, 14);
  const down = 'base_model.model.model.layers.0.mlp.down_proj';
  assert.deepEqual(tensors.get(`${down}.lora_A.weight`)?.shape, [16, 12]);
  assert.deepEqual(tensors.get(`${down}.lora_B.weight`)?.shape, [8, 16]);
  assert.deepEqual(randomAdapter(TINY, 1), files);
  const changed = changedAdapter(files, 0).get('adapter_model.safetensors')!;
  const differing = [...changed.keys()].filter((i) => changed[i] !== weights[i]);
  assert(differing.length > 0 && differing.every((i) => i >= weights.length - 4));
});

const SERIES = `# HELP x y
vllm:num_requests_running{model_name="m"} 3
vllm:lora_adapter_loaded{adapter_name="a",level="active",pinned="true"} 1
vllm:lora_adapter_loaded{adapter_name="b \\"q\\", }",level="loaded",pinned="false"} 1
process_resident_memory_bytes 2.5e8
runtime_native_handles 12
`;

test('a soak sample is read from the metrics', () => {
  const series = parseMetrics(SERIES);
  assert.equal(series.length, 5);
  assert.equal(sumOf(series, 'nothing'), 0);
  assert.deepEqual(readSample(series, 7), {
    seconds: 7,
    rssMb: 250,
    running: 3,
    waiting: 0,
    pinned: 1,
    loaded: 2,
    nativeHandles: 12,
  });
});

test('a soak is judged by the slope after its warm-up and by what is left', () => {
  const sample = (seconds: number, rssMb: number): SoakSample => ({
    seconds,
    rssMb,
    running: 8,
    waiting: 0,
    pinned: 8,
    loaded: 8,
    nativeHandles: 100,
  });
  const idle: SoakSample = { ...sample(90, 400), running: 0, pinned: 0, loaded: 0 };
  const counts = { adapters: 9, requests: 18, errors: [] };
  const rising = [200, 300, 400, 400, 401, 399, 400, 400].map((mb, i) => sample(10 * i, mb));
  assert.deepEqual(judge(1, counts, rising, idle, 0).problems, []);
  const leaking = rising.map((one, i) => ({ ...one, rssMb: 400 + 10 * i, nativeHandles: 100 + 5 * i }));
  const leak = judge(1, counts, leaking, { ...idle, pinned: 1 }, 2);
  assert.equal(leak.rssMbPerMinute, 60);
  assert.deepEqual(leak.problems, [
    'memory grew by 11.2 % after the warm-up',
    'native handles grew by 20.4 % after the warm-up',
    'adapters pinned at the end: 1',
    'adapters listed at the end: 2',
  ]);
});

function tally(name: string, numUnderWay: number, numAnswers: number, more: Partial<TenantTally> = {}) {
  const answer = { startMs: 0, endMs: 50, pieceMs: [20], numTokens: 8, numCachedTokens: 0, model: 'm' };
  const answers = Array.from({ length: numAnswers }, () => answer);
  return { name, numUnderWay, answers, errors: [], numForeign: 0, ...more };
}

test('a load of tenants is judged by its service, its borders and its failures', () => {
  const measured = { seconds: 2, singleSeconds: 1, numAdapters: 3, single: tally('a', 8, 10) };
  const fair = judgeTenants({
    ...measured,
    mixed: [tally('a', 6, 5), tally('b', 1, 5), tally('c', 1, 5)],
    statuses: [404, 404, 404],
  });
  assert.deepEqual(fair.problems, []);
  assert.deepEqual([fair.singleTokensPerS, fair.mixedTokensPerS, fair.goodputRatio], [80, 60, 0.75]);
  assert.equal(fair.jain, 1);
  assert.equal(fair.jainByArrival, 64 / (3 * 38));
  const bad = judgeTenants({
    ...measured,
    mixed: [tally('a', 6, 9, { numForeign: 2 }), tally('b', 1, 1, { errors: ['429 full'] })],
    statuses: [404, 200],
  });
  assert.deepEqual(bad.problems, [
    '1 requests failed, the first with 429 full',
    '2 answers name another model than was asked',
    "1 requests for another tenant's adapter were not a 404",
    "Jain's index is 0.610, below 0.95",
  ]);
  const lines = tenantMarkdown(madeUpReport(), fair).split('\n');
  for (const line of [
    '## 3 tenants, 3 adapters',
    '| a | 6 | 5 | 20.0 | 20 ms | 20 ms | 50 ms | 50 ms | 0 |',
    '| all tenants / one adapter | 0.75 |',
    "| Jain's index over the tenants | 1.000 |",
    'Nobody starved and no border was crossed.',
  ])
    assert(lines.includes(line), `no line ${line}`);
});

test('a server under test has the models, and nothing that it writes stays', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'bench-data-'));
  writeFileSync(join(dataDir, 'registry.db'), 'the real one');
  let made = '';
  await withFreshState(dataDir, async (folder) => {
    made = folder;
    writeFileSync(join(folder, 'models', 'model'), 'weights');
    writeFileSync(join(folder, 'registry.db'), 'another');
  });
  assert(!existsSync(made));
  assert.equal(readFileSync(join(dataDir, 'models', 'model'), 'utf8'), 'weights');
  assert.equal(readFileSync(join(dataDir, 'registry.db'), 'utf8'), 'the real one');
  rmSync(dataDir, { recursive: true });
});

test('rounds are pooled', () => {
  const answer = (startMs: number, firstMs: number, endMs: number): Answer => ({
    startMs,
    endMs,
    pieceMs: [firstMs, endMs],
    numTokens: 10,
    numCachedTokens: 0,
    model: null,
  });
  const [scenario] = scenarios(true);
  const target = modelTarget('own', '', '', String);
  const runs = [
    { wallMs: 100, answers: [answer(0, 20, 100)], errors: [] },
    { wallMs: 300, answers: [answer(500, 540, 800)], errors: ['no'] },
  ];
  assert.deepEqual(summarize(target, scenario!, runs), {
    target: 'own',
    scenario: 'base, 1 at once',
    pick: 'base',
    concurrency: 1,
    requests: 3,
    tokensPerS: 50,
    latencyMs: { p50: 200, p95: 290 },
    firstTokenMs: { p50: 30, p95: 39 },
    errors: ['no'],
  });
});

function madeUpReport(): BenchReport {
  const load = (target: string, pick: 'base' | 'zipf', tokensPerS: number) => ({
    target,
    scenario: pick,
    pick,
    concurrency: 16,
    requests: 64,
    tokensPerS,
    latencyMs: { p50: 100, p95: 200 / tokensPerS },
    firstTokenMs: { p50: 10, p95: null },
    errors: [],
  });
  return {
    machine: {
      cpu: 'CPU',
      cores: 2,
      memoryGb: 8,
      instructionSets: ['avx2'],
      platform: 'linux x64',
      node: 'v20',
      loadBefore: 0.5,
    },
    threads: 2,
    command: 'graft bench',
    commit: 'abc1234',
    date: '2026-01-01T00:00:00.000Z',
    model: 'm, q4',
    rounds: 3,
    targets: ['own', 'peer'],
    rates: [
      { kind: 'decode', rows: 8, adapters: 0, raw: 500, http: { own: 450, peer: 300 } },
      { kind: 'decode', rows: 8, adapters: 1, raw: 400, http: { own: 360, peer: null } },
    ],
    load: [
      load('own', 'base', 400),
      load('peer', 'base', 200),
      load('own', 'zipf', 300),
      load('peer', 'zipf', 100),
    ],
    coldAdapter: { trials: 5, coldMs: 90.4, warmMs: 60 },
    start: { readyMs: 900, rssMb: 420.2 },
  };
}

test('the ratios of a run', () => {
  assert.deepEqual(
    ratiosOf(madeUpReport()).map(({ name, value }) => `${name}: ${value}`),
    [
      'decode, 8 at once, base: HTTP / raw graph: 0.9',
      'decode, 8 at once, one LoRA r16: adapters / base, raw graph: 0.8',
      'decode, 8 at once, one LoRA r16: adapters / base, HTTP: 0.8',
      'chat, zipf: adapters / base: 0.75',
      'decode, 8 at once, base: own / peer: 1.5',
      'decode, 8 at once, one LoRA r16: own / peer: null',
      'chat, base: own / peer, tok/s: 2',
      'chat, base: own / peer, p95 latency: 0.5',
      'chat, zipf: own / peer, tok/s: 3',
      `chat, zipf: own / peer, p95 latency: ${200 / 300 / 2}`,
    ],
  );
});

test('the report is markdown tables with machine, command and commit', () => {
  assert.equal(table(['a', 'b'], [['1', '2']]), '| a | b |\n| --- | --- |\n| 1 | 2 |');
  const lines = markdown(madeUpReport()).split('\n');
  for (const line of [
    '- machine: CPU, 2 cores (avx2), 8 GB, linux x64, Node v20',
    '- command: `graft bench`',
    '- commit: abc1234',
    '| work | raw graph | own | peer |',
    '| decode, 8 at once, one LoRA r16 | 400 | 360 | - |',
    '| zipf | own | 300 | 100 ms | 1 ms | 10 ms | - | 0 of 64 |',
    '| first token of an adapter not loaded yet | 90 ms |',
    '| resident memory then | 420 MB |',
  ])
    assert(lines.includes(line), `no line ${line}`);
});

let url: string;
let replies: (body: string) => { status: number; text: string };
const server = createServer((incoming, outgoing) => {
  void (async () => {
    const { status, text } = replies(Buffer.concat(await incoming.toArray()).toString());
    outgoing.writeHead(status).end(text);
  })();
});
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  url = `http://127.0.0.1:${address.port}`;
});
after(() => server.close());

test('the load client reads streams, plain answers and failures', async () => {
  const client = new LoadClient(url, new AbortController().signal);
  const data = (...events: object[]): string =>
    events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('');
  const piece = (content: string) => ({ choices: [{ delta: { content } }] });
  replies = () => ({
    status: 200,
    text: `${data(piece(''), piece('é'), { ...piece('b'), model: 'm' }, { choices: [], usage: { completion_tokens: 5, prompt_tokens_details: { cached_tokens: 3 } } })}data: [DONE]\n\n`,
  });
  const streamed = await client.ask('/x', { stream: true });
  assert.equal(streamed.pieceMs.length, 2);
  assert.equal(streamed.numTokens, 5);
  assert.equal(streamed.numCachedTokens, 3);
  assert.equal(streamed.model, 'm');
  replies = () => ({ status: 200, text: data(piece('a')) });
  await assert.rejects(client.ask('/x', { stream: true }), /ended without \[DONE\]/);
  replies = () => ({ status: 200, text: data({ error: { message: 'broken' } }) });
  await assert.rejects(client.ask('/x', { stream: true }), /broken/);
  replies = () => ({
    status: 200,
    text: JSON.stringify({ choices: [{ text: 'ab' }], usage: { completion_tokens: 1 } }),
  });
  const plain = await client.ask('/x', { stream: false });
  assert.deepEqual([plain.numTokens, plain.pieceMs], [1, []]);
  replies = () => ({ status: 429, text: 'full' });
  await assert.rejects(client.ask('/x', {}), /429 full/);
});

test('a closed loop keeps its number of requests under way, and counts failures', async () => {
  let running = 0;
  let most = 0;
  const run = await closedLoop(3, 10, async (index) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    if (index === 4) throw new Error('four');
    return { startMs: 0, endMs: 1, pieceMs: [], numTokens: index, numCachedTokens: 0, model: null };
  });
  assert.equal(most, 3);
  assert.equal(run.answers.length, 9);
  assert.deepEqual(run.errors, ['Error: four']);
});

test('the server under test gets the options that bench was given', () => {
  const config = readConfig('serve', {
    flags: { slots: '4', prefixCache: 'off', model: 'm', threads: '2', dataDir: '/d' },
    env: {},
    file: null,
    cwd: '/',
  });
  assert.equal(
    serveFlags(config).join(' '),
    '--model m --weights q4 --slots 4 --prefill-chunk 128 --data-dir /d --threads 2 --prefix-cache off --prompt-lookup on --lora-path grouped --kernels auto',
  );
});

test('wrong options end with 2 before anything is measured', async () => {
  const noMain = () => Promise.reject(new Error('main.ts was loaded'));
  const terminal = fakeTerminal();
  const argv = ['bench', '--rounds', '0', '--peer-mode', 'x', '--soak', '0', '--port', '1'];
  assert.equal(await runCli(argv, terminal, noMain), 2);
  assert.equal(
    terminal.err(),
    'Unknown flag --port; did you mean --out?\n' +
      'Expected `rounds` to be an integer from 1 to 100, got `0` (flag --rounds)\n' +
      'Expected `peer-mode` to be lora or model, got `x` (flag --peer-mode)\n' +
      'Expected `soak` to be an integer from 1 to 10080, got `0` (flag --soak)\n',
  );
});
