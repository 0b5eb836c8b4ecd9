// The whole product over a tiny reference base, on a free port with a data folder of its own: startServer as `serve` calls it.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { readConfig } from '../../src/cli/read-config.js';
import { startServer } from '../../src/main.js';
import { completionTokenText } from '../../src/server/openai/token-text.js';
import { adapterFiles } from './adapter-fixtures.js';
import { FIXTURES } from './tiny-model.js';
import { fixtureTokenizer } from './tokenizer-fixture.js';

export const BASE = 'llama-tied';
export const BASE_FOLDER = join(FIXTURES, 'bases', BASE);

/** Takes what is to be undone after a test; node:test's own `after` does it for a whole file. */
export interface Cleanup {
  after(undo: () => void | Promise<void>): void;
}

/** A folder that goes with the test. */
export function temporaryFolder(cleanup: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'server-'));
  cleanup.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface RunningServer {
  readonly url: string;
  readonly client: OpenAI;
  readonly dataDir: string;
  /** Labels of the progress shown while it started. */
  readonly progress: ReadonlySet<string>;
  readonly log: readonly string[];
  close(): Promise<void>;
}

/**
 * Flags as on the command line, over: this base in f32, one thread, 8 slots, port 0. Closed after the test, its own data folder removed.
 * `runModule` is the URL of what its workers run in place of the trainer.
 */
export async function runServer(
  cleanup: Cleanup,
  flags: Readonly<Record<string, unknown>> = {},
  runModule: string | null = null,
): Promise<RunningServer> {
  const own = flags['dataDir'] === undefined ? mkdtempSync(join(tmpdir(), 'server-')) : null;
  const given = { model: BASE_FOLDER, weights: 'f32', threads: '1', slots: '8', port: '0', dataDir: own };
  const config = readConfig('serve', { flags: { ...given, ...flags }, env: {}, file: null, cwd: '/' });
  let close = (): Promise<void> => Promise.resolve();
  cleanup.after(async () => {
    await close();
    if (own !== null) rmSync(own, { recursive: true, force: true });
  });
  const progress = new Set<string>();
  const log: string[] = [];
  const ui = { progress: (label: string) => progress.add(label), log: (line: string) => log.push(line) };
  const server = await startServer(config, ui, runModule);
  let closed: Promise<void> | null = null;
  close = () => (closed ??= server.close());
  return { url: server.url, client: clientOf(server.url), dataDir: config.dataDir, progress, log, close };
}

export function clientOf(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
}

/** Uploads the files of a fixture's adapter, each as a part. */
export function uploadAdapter(url: string, name: string, adapter: string): Promise<Response> {
  return upload(url, name, adapterFiles(BASE, adapter));
}

/** A multipart upload of files, or of one archive. */
export function upload(url: string, name: string, files: ReadonlyMap<string, Uint8Array>): Promise<Response> {
  const body = new FormData();
  body.append('name', name);
  for (const [file, bytes] of files)
    if (file !== 'expected.json') body.append('file', new Blob([new Uint8Array(bytes)]), file);
  return fetch(`${url}/v1/adapters`, { method: 'POST', body });
}

export interface Refusal {
  readonly code: string;
  readonly param: string | null;
  readonly message: string;
}

/** The error of an answer in OpenAI's form. */
export async function refusalOf(response: Response): Promise<Refusal> {
  const body: { error: Refusal } = JSON.parse(await response.text());
  return body.error;
}

/** Uploads each fixture's adapter under its own name. */
export async function uploadAll(url: string, adapters: readonly string[]): Promise<void> {
  for (const adapter of adapters) {
    const response = await uploadAdapter(url, adapter, adapter);
    assert.equal(response.status, 201, await response.text());
  }
}

/** One sequence of a fixture: what PyTorch and PEFT gave for it alone. */
export interface ReferenceCase {
  /** The base's or the adapter's name. */
  readonly name: string;
  readonly prompt: number[];
  /** log p(token j+1 | tokens 0..j). */
  readonly logprobs: readonly number[];
  /** The greedy continuation, as completions name its tokens. */
  readonly greedy: readonly string[];
}

interface ExpectedFile {
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask: readonly (readonly number[])[];
  readonly token_logprobs: readonly (readonly number[])[];
  readonly greedy_tokens: readonly (readonly number[])[];
}

export function referenceCases(name: string): ReferenceCase[] {
  const folder = name === BASE ? BASE_FOLDER : join(FIXTURES, 'adapters', BASE, name);
  const expected: ExpectedFile = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
  const tokenizer = fixtureTokenizer();
  return expected.input_ids.map((ids, i) => ({
    name,
    prompt: ids.filter((_, j) => expected.attention_mask[i]![j] === 1),
    logprobs: expected.token_logprobs[i]!,
    greedy: expected.greedy_tokens[i]!.map((token) => completionTokenText(token, tokenizer)),
  }));
}

export const NUM_GREEDY = 8;

/** What /v1/completions is asked for a greedy continuation with its log-probabilities. */
export function greedyBody(model: string, prompt: number[]) {
  return { model, prompt, max_tokens: NUM_GREEDY, temperature: 0, logprobs: 0, ignore_eos: true } as const;
}

/** Tokens of the greedy continuation. */
export async function greedyTokens(client: OpenAI, model: string, prompt: number[]): Promise<string[]> {
  const answer = await client.completions.create(greedyBody(model, prompt));
  return answer.choices[0]!.logprobs!.tokens!;
}

/** The value of one series of /metrics; labels as they stand between the braces, in part. */
export async function metric(url: string, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((row) => row.startsWith(`${name}{`) && row.includes(labels));
  assert(line !== undefined, `/metrics has no ${name} ${labels}`);
  return Number(line.slice(line.lastIndexOf(' ') + 1));
}

const MAX_POLLS = 2_000;

/** Asks /metrics until nothing runs and nothing waits; fails after a bounded number of answers. */
export function untilIdle(url: string): Promise<void> {
  return untilLoad(url, (load) => load === 0);
}

/** Asks /metrics until something runs or waits; fails after a bounded number of answers. */
export function untilBusy(url: string): Promise<void> {
  return untilLoad(url, (load) => load > 0);
}

async function untilLoad(url: string, holds: (load: number) => boolean): Promise<void> {
  for (let polls = 0; polls < MAX_POLLS; polls++) {
    const running = await metric(url, 'vllm:num_requests_running');
    if (holds(running + (await metric(url, 'vllm:num_requests_waiting')))) return;
  }
  assert.fail(`not so after ${MAX_POLLS} answers of /metrics`);
}

/** Prompts that keep two slots busy for some seconds; each continues for 240 tokens. */
export function longBody(model: string, numPrompts: number) {
  const prompt = Array.from({ length: numPrompts }, () => [1, 68, 168]);
  return { model, prompt, max_tokens: 240, temperature: 0, ignore_eos: true } as const;
}
