// The command line in one process: words in, exit code and text out; the client commands against a small HTTP server.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Readable } from 'node:stream';
import { runCli } from '../../src/cli/program.js';
import type { Main } from '../../src/cli/serve.js';
import type { Config } from '../../src/config.js';
import { assert as invariant, GatewayError } from '../../src/errors.js';
import { fakeTerminal, type FakeTerminal } from '../helpers/fake-terminal.js';

let folder: string;
let server: Server;
let url: string;
let requests: Request[];
let respond: (request: Request) => Response | Promise<Response>;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cli-'));
  server = createServer((incoming, outgoing) => {
    void (async () => {
      const body = Buffer.concat(await incoming.toArray());
      const headers = { 'content-type': incoming.headers['content-type'] ?? '' };
      const request = new Request(`http://server${incoming.url}`, {
        method: incoming.method ?? 'GET',
        headers,
        ...(body.length > 0 && { body }),
      });
      requests.push(request.clone());
      const response = await respond(request);
      outgoing.writeHead(response.status);
      if (response.body === null) outgoing.end();
      else {
        const source = Readable.fromWeb(response.body).on('error', () => outgoing.destroy());
        outgoing.on('close', () => source.destroy());
        source.pipe(outgoing);
      }
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  invariant(address !== null && typeof address === 'object', 'listening');
  url = `http://127.0.0.1:${address.port}`;
});
after(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

function answerWith(handler: typeof respond): void {
  requests = [];
  respond = handler;
}

const noMain = () => Promise.reject(new Error('main.ts was loaded'));

async function run(argv: string[], terminal: FakeTerminal = fakeTerminal({}, folder), main?: Main) {
  const code = await runCli(argv, terminal, main === undefined ? noMain : () => Promise.resolve(main));
  return { code, out: terminal.out(), err: terminal.err() };
}

test('every command has help with an example, and none of it loads the server', async () => {
  for (const words of [
    [],
    ['serve'],
    ['pull'],
    ['convert'],
    ['adapters'],
    ['adapters', 'list'],
    ['adapters', 'add'],
    ['adapters', 'remove'],
    ['chat'],
    ['bench'],
    ['train'],
    ['plan'],
    ['keys'],
    ['keys', 'create'],
    ['keys', 'list'],
    ['keys', 'rotate'],
    ['keys', 'revoke'],
    ['tenants'],
    ['tenants', 'set'],
    ['tenants', 'list'],
  ]) {
    const { code, out, err } = await run([...words, '--help']);
    assert.equal(code, 0);
    assert.equal(err, '');
    assert.match(out, /^Usage: graft/);
    assert.match(out, /Examples:\n {2}graft /, words.join(' '));
  }
  const { out } = await run(['serve', '--help']);
  assert.match(
    out.replaceAll(/\s+/g, ' '),
    /--slots <N> requests that run .* \(1 to 256, default: 16, env: GRAFT_SLOTS\)/,
  );
});

test('--version', async () => {
  assert.deepEqual(await run(['--version']), { code: 0, out: '0.1.0\n', err: '' });
});

test('a wrong command line ends with 2 and names every problem', async () => {
  assert.deepEqual(await run(['serve', '--slot', '3', '--port', 'x', '--weights=q5']), {
    code: 2,
    out: '',
    err:
      'Unknown flag --slot; did you mean --slots?\n' +
      'Expected `weights` to be q4, q8 or f32, got `q5` (flag --weights)\n' +
      'Expected `port` to be an integer from 0 to 65535, got `x` (flag --port)\n',
  });
  assert.deepEqual(await run(['serve', 'now']), { code: 2, out: '', err: 'Unexpected word `now`\n' });
  assert.equal((await run(['pull'])).code, 2);
  assert.equal((await run(['fly'])).code, 2);
  assert.equal((await run([])).code, 2);
});

test('a wrong environment ends with 2', async () => {
  const { code, err } = await run(['serve'], fakeTerminal({ GRAFT_SLOTS: 'x' }));
  assert.equal(code, 2);
  assert.equal(err, 'Expected `slots` to be an integer from 1 to 256, got `x` (environment GRAFT_SLOTS)\n');
});

function fakeMain(close: () => Promise<void>, seen: Config[] = []): Main {
  return {
    startServer: (config, ui) => {
      seen.push(config);
      ui.log('loading');
      return Promise.resolve({ url: 'http://127.0.0.1:4321', close });
    },
    prepareModel: (config) => {
      seen.push(config);
      const artifact = join(folder, 'artifact');
      mkdirSync(artifact, { recursive: true });
      writeFileSync(join(artifact, 'manifest.json'), '{}');
      return Promise.resolve(artifact);
    },
    openModel: () => Promise.reject(new Error('a model was opened')),
  };
}

test('serve says where it listens, drains when interrupted, and ends with 0', async () => {
  const terminal = fakeTerminal({}, folder);
  const seen: Config[] = [];
  let closed = 0;
  const ended = run(
    [
      'serve',
      '--port',
      '0',
      '--adapter',
      'a=x',
      '--adapter',
      'b=y',
      '--prefill-chunk=64',
      '--config',
      'none.json',
    ],
    terminal,
  );
  assert.equal((await ended).code, 2);
  const serving = run(
    ['serve', '--port', '0', '--adapter', 'a=x', '--adapter', 'b=y', '--prefill-chunk=64'],
    terminal,
    fakeMain(() => Promise.resolve(void closed++), seen),
  );
  await terminal.outHas('listening on http://127.0.0.1:4321\n');
  assert.equal(closed, 0);
  terminal.interrupt();
  assert.equal((await serving).code, 0);
  assert.equal(closed, 1);
  assert.deepEqual(
    [seen[0]!.port, seen[0]!.prefillChunk, seen[0]!.adapter],
    [
      0,
      64,
      [
        { name: 'a', path: join(folder, 'x') },
        { name: 'b', path: join(folder, 'y') },
      ],
    ],
  );
});

test('a second interrupt does not wait for the draining', async () => {
  const terminal = fakeTerminal();
  const never = new Promise<void>(() => undefined);
  const serving = run(
    ['serve'],
    terminal,
    fakeMain(() => never),
  );
  await terminal.outHas('listening');
  terminal.interrupt();
  terminal.interrupt();
  assert.equal((await serving).code, 130);
});

test('an interrupt while loading ends with 130', async () => {
  const terminal = fakeTerminal();
  const main: Main = {
    ...fakeMain(() => Promise.resolve()),
    startServer: () => {
      queueMicrotask(() => terminal.interrupt());
      return new Promise(() => undefined);
    },
  };
  assert.deepEqual(await run(['serve'], terminal, main), { code: 130, out: '', err: '' });
});

test("a failure of the caller's is a sentence, one of ours has its stack; both end with 1", async () => {
  const failing = (failure: Error): Main => ({
    ...fakeMain(async () => undefined),
    startServer: async () => {
      throw failure;
    },
  });
  const theirs = await run(
    ['serve'],
    fakeTerminal(),
    failing(new GatewayError('download_failed', 'no network')),
  );
  assert.deepEqual(theirs, { code: 1, out: '', err: 'no network\n' });
  const ours = await run(['serve'], fakeTerminal(), failing(new TypeError('oops')));
  assert.equal(ours.code, 1);
  assert.match(ours.err, /^TypeError: oops\n {4}at /);
});

test('pull and convert prepare the model with what serve would use', async () => {
  const seen: Config[] = [];
  const main = fakeMain(() => Promise.resolve(), seen);
  const artifact = join(folder, 'artifact');
  const pulled = await run(
    ['pull', 'Qwen3-0.6B', '--weights', 'q8'],
    fakeTerminal({ GRAFT_MODEL: 'x' }),
    main,
  );
  assert.deepEqual(pulled, { code: 0, out: `${artifact}\n`, err: '' });
  assert.deepEqual([seen[0]!.model, seen[0]!.weights], ['Qwen3-0.6B', 'q8']);
  const out = join(folder, 'converted');
  const converted = await run(['convert', './m.gguf', '--out', 'converted'], fakeTerminal({}, folder), main);
  assert.deepEqual(converted, { code: 0, out: `${out}\n`, err: '' });
  assert.deepEqual(readdirSync(out), ['manifest.json']);
  const again = await run(['convert', './m.gguf', '--out', 'converted'], fakeTerminal({}, folder), main);
  assert.equal(again.code, 1);
  assert.match(
    again.err,
    /^Expected `out` to be a new or empty folder, got `.*converted` with manifest\.json in it/,
  );
});

const ROW = {
  name: 'legal',
  version: 2,
  peft_type: 'LORA',
  served_as: 'lora',
  rank: 16,
  size_bytes: 19_500_000,
  created_at: 1_700_000_000,
};

test('adapters list prints a table', async () => {
  answerWith(() => Response.json({ data: [ROW, { ...ROW, name: 'p', served_as: 'prefix', rank: null }] }));
  assert.deepEqual(await run(['adapters', 'list', '--url', `${url}/`]), {
    code: 0,
    out:
      'NAME   VERSION  TYPE  SERVED AS  RANK  SIZE     CREATED\n' +
      'legal  2        LORA  lora       16    19.5 MB  2023-11-14 22:13\n' +
      'p      2        LORA  prefix     -     19.5 MB  2023-11-14 22:13\n',
    err: '',
  });
  assert.equal(requests[0]!.url, 'http://server/v1/adapters');
});

test("adapters add sends PEFT's files and leaves a trainer's at home", async () => {
  answerWith(() => Response.json(ROW, { status: 201 }));
  const adapter = join(folder, 'legal');
  mkdirSync(adapter);
  for (const name of ['adapter_config.json', 'adapter_model.safetensors', 'optimizer.pt', 'README.md'])
    writeFileSync(join(adapter, name), `content of ${name}`);
  const terminal = fakeTerminal({ GRAFT_URL: url }, folder);
  const { code, out } = await run(['adapters', 'add', 'legal', 'legal'], terminal);
  assert.deepEqual([code, out], [0, 'legal: version 2, LORA, 19.5 MB\n']);
  const form = await requests[0]!.formData();
  assert.equal(form.get('name'), 'legal');
  const files = form.getAll('file').map((file) => {
    invariant(file instanceof File, 'a file');
    return file;
  });
  assert.deepEqual(
    await Promise.all(files.map(async (file) => [file.name, await file.text()])),
    ['adapter_config.json', 'adapter_model.safetensors'].map((name) => [name, `content of ${name}`]),
  );
});

test("adapters add of nothing, and refusals in the server's words", async () => {
  const nothing = await run(['adapters', 'add', 'a', 'nowhere', '--url', url]);
  assert.equal(nothing.code, 1);
  assert.match(nothing.err, /^Expected PATH to be a folder with adapter_config\.json/);
  answerWith(() => Response.json({ error: { message: 'No adapter `a` is registered' } }, { status: 404 }));
  assert.deepEqual(await run(['adapters', 'remove', 'a/b', '--url', url]), {
    code: 1,
    out: '',
    err: 'No adapter `a` is registered\n',
  });
  assert.deepEqual([requests[0]!.method, requests[0]!.url], ['DELETE', 'http://server/v1/adapters/a%2Fb']);
});

test('a client command without a server says how to get one', async () => {
  const closing = createServer();
  await new Promise<void>((resolve) => closing.listen(0, '127.0.0.1', resolve));
  const address = closing.address();
  invariant(address !== null && typeof address === 'object', 'listening');
  await new Promise((resolve) => closing.close(resolve));
  const { code, err } = await run(['adapters', 'list', '--url', `http://127.0.0.1:${address.port}`]);
  assert.equal(code, 1);
  assert.match(err, /^No server answers at http:\/\/127\.0\.0\.1:\d+: start one with `graft serve`/);
});

/** An event stream of those pieces; `end` is what comes last. */
function stream(pieces: readonly string[], end = 'data: [DONE]\n\n'): Response {
  const events = pieces.map(
    (content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`,
  );
  const bytes = Buffer.from(events.join('') + end);
  // Cut within characters and lines: nothing may depend on where a read ends.
  const parts = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) =>
    bytes.subarray(i * 7, i * 7 + 7),
  );
  return new Response(ReadableStream.from(parts));
}

async function messagesOf(request: Request): Promise<unknown> {
  const body: unknown = await request.json();
  return body;
}

test('chat streams answers, keeps the conversation, and forgets it on /reset', async () => {
  answerWith((request) =>
    request.method === 'GET'
      ? Response.json({ data: [{ id: 'base' }, { id: 'legal' }] })
      : stream(['Grü', 'ß ', '🙂']),
  );
  const terminal = fakeTerminal();
  terminal.stdin.end('one\n\n/help\ntwo\n/reset\nthree\n/exit\nfour\n');
  const { code, out } = await run(['chat', '--url', url, '--system', 'S', '--model', 'legal'], terminal);
  assert.deepEqual([code, out], [0, 'Grüß 🙂\nGrüß 🙂\nGrüß 🙂\n']);
  const [system, one, answer] = [
    { role: 'system', content: 'S' },
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'Grüß 🙂' },
  ];
  assert.deepEqual(await Promise.all(requests.slice(1).map(messagesOf)), [
    { model: 'legal', stream: true, messages: [system, one] },
    { model: 'legal', stream: true, messages: [system, one, answer, { role: 'user', content: 'two' }] },
    { model: 'legal', stream: true, messages: [system, { role: 'user', content: 'three' }] },
  ]);
});

test('chat goes on after an error in the stream, without the failed message', async () => {
  const answers = [stream(['par'], 'data: {"error":{"message":"engine failed"}}\n\n'), stream(['ok'])];
  answerWith((request) =>
    request.method === 'GET' ? Response.json({ data: [{ id: 'base' }] }) : answers.shift()!,
  );
  const terminal = fakeTerminal();
  terminal.stdin.end('one\ntwo\n');
  const { code, out, err } = await run(['chat', '--url', url], terminal);
  assert.deepEqual([code, out], [0, 'par\nok\n']);
  assert.match(err, /engine failed\n$/);
  assert.deepEqual(await messagesOf(requests.at(-1)!), {
    model: 'base',
    stream: true,
    messages: [{ role: 'user', content: 'two' }],
  });
});

test('an interrupt stops the answer, a second one ends the chat', async () => {
  let cancelled: () => void;
  const gone = new Promise<void>((resolve) => (cancelled = resolve));
  const endless = () =>
    new Response(
      new ReadableStream({
        start: (controller) =>
          controller.enqueue(Buffer.from('data: {"choices":[{"delta":{"content":"so far"}}]}\n\n')),
        cancel: () => cancelled(),
      }),
    );
  answerWith((request) => (request.method === 'GET' ? Response.json({ data: [{ id: 'base' }] }) : endless()));
  const terminal = fakeTerminal();
  const chatting = run(['chat', '--url', url], terminal);
  terminal.stdin.write('one\n');
  await terminal.outHas('so far');
  terminal.interrupt();
  await terminal.outHas('so far\n');
  await gone;
  terminal.interrupt();
  assert.deepEqual((await chatting).code, 0);
});

test('chat refuses a model that the server does not have', async () => {
  answerWith(() => Response.json({ data: [{ id: 'base' }, { id: 'legal' }] }));
  const { code, err } = await run(['chat', '--url', url, '--model', 'lega']);
  assert.deepEqual([code, err], [1, 'Expected `model` to be one of base, legal, got `lega`\n']);
});
