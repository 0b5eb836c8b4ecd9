// `serve` as a process of its own, the `adapters` commands against it, and its end by SIGTERM.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  BASE,
  clientOf,
  greedyTokens,
  longBody,
  referenceCases,
  temporaryFolder,
} from '../helpers/running-server.js';
import { runCli, spawnServer } from '../helpers/server-process.js';
import { FIXTURES } from '../helpers/tiny-model.js';

const NUM_PROMPTS = 16;
const FOLDER = join(FIXTURES, 'adapters', BASE);

test('serve says where it listens, adapters come and go, SIGTERM finishes what runs and exits 0', async (t) => {
  const server = await spawnServer(t, temporaryFolder(t));
  const graft = (...args: string[]) => runCli(t, ['adapters', ...args, '--url', server.url]);
  const client = clientOf(server.url);
  const [reference] = referenceCases('lora-mixed');

  const [added, refused] = await Promise.all([
    graft('add', 'mine', join(FOLDER, 'lora-mixed')),
    graft('add', 'bad', join(FOLDER, 'lntuning')),
  ]);
  assert.deepEqual([added.code, added.stderr], [0, '']);
  assert.match(added.stdout, /^mine: version 1, LORA, \d+\.\d MB\n$/);
  assert.deepEqual([refused.code, refused.stdout], [1, '']);
  assert.match(refused.stderr, /`peft_type`/);
  assert.deepEqual(await greedyTokens(client, 'mine', reference!.prompt), reference!.greedy);

  const listed = await graft('list');
  assert.match(listed.stdout, /^NAME +VERSION .*\nmine +1 +LORA +lora +16 /);
  const removed = await graft('remove', 'mine');
  assert.deepEqual([removed.code, removed.stdout, removed.stderr], [0, 'mine: removed\n', '']);
  await assert.rejects(greedyTokens(client, 'mine', reference!.prompt), { status: 404 });

  const stream = await client.completions.create({ ...longBody(BASE, NUM_PROMPTS), stream: true });
  const finished: number[] = [];
  let ended: Promise<[number | null, string | null]> | null = null;
  for await (const { choices } of stream) {
    ended ??= server.end('SIGTERM');
    for (const choice of choices) if (choice.finish_reason === 'length') finished.push(choice.index);
  }
  assert.deepEqual(
    finished.toSorted((a, b) => a - b),
    Array.from({ length: NUM_PROMPTS }, (_, i) => i),
  );
  assert.deepEqual(await ended, [0, null]);
  assert.deepEqual(server.lines, [`listening on ${server.url}`]);
  assert.match(await server.stderr, /finishing the requests under way/);
});

test('a port that is taken is said, and exits 1', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const address = taken.address();
  assert(typeof address === 'object' && address !== null);
  const args = ['--model', join(FIXTURES, 'bases', BASE), '--data-dir', temporaryFolder(t)];
  const ended = await runCli(t, ['serve', ...args, '--port', String(address.port)]);
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, new RegExp(`${address.port}`));
  assert.doesNotMatch(ended.stdout, /listening/);
});
