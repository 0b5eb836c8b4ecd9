// How requests end before their time, and what the engine refuses: cancelling, readers that stop, a full queue, dispose.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { GatewayError, type ErrorCode } from '../../src/errors.js';
import type { OpenEngine } from '../../src/engine/open-engine.js';
import { assertSame, until } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { collect, request, tinyModel, type Result } from '../helpers/tiny-model.js';

const VOCAB = 320;
const LONG = { maxTokens: 100 };
const model = await tinyModel('llama-tied');
after(() => model.dispose());
const lora = randomLora(model.artifact.manifest.architecture, 41);
const prompt = randomTokens(1, 10, VOCAB);

function expectError(code: ErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof GatewayError && error.code === code;
}

async function expected(item: Parameters<OpenEngine['engine']['generate']>[0]): Promise<Result> {
  const engine = await model.open();
  const result = await collect(engine.engine.generate(item));
  await engine.dispose();
  return result;
}

/** Finished within the step after the one under way. */
async function freedWithinOneStep({ engine }: OpenEngine, running: number): Promise<void> {
  const { numSteps } = engine.stats();
  await until(() => engine.stats().numRunning === running || engine.stats().numSteps > numSteps + 1, 'freed');
  assert.equal(engine.stats().numRunning, running);
}

test('cancelling frees the slot within one step', async () => {
  const engine = await model.open();
  const controller = new AbortController();
  const generation = engine.engine.generate(request(prompt, { sampling: LONG, signal: controller.signal }));
  const result = collect(generation);
  await until(() => engine.engine.stats().numSteps >= 5, 'five steps');
  assert.equal(engine.engine.stats().numRunning, 1);
  controller.abort();
  await freedWithinOneStep(engine, 0);
  const { finish, tokens } = await result;
  assert.equal(finish, 'cancelled');
  assert(tokens.length > 0 && tokens.length < 10, `${tokens.length} tokens`);
  await engine.dispose();
});

test('others go on unharmed while one is cancelled, in prefill or decode', async () => {
  const keep = [
    request(prompt, { sampling: { maxTokens: 30 } }),
    request(prompt, { adapter: lora, sampling: { maxTokens: 30 } }),
  ];
  const wanted = [await expected(keep[0]!), await expected(keep[1]!)];
  for (const [length, steps] of [
    [3, 12],
    [100, 6],
  ] as const) {
    const engine = await model.open({ prefillChunk: 4 });
    const controller = new AbortController();
    const { signal } = controller;
    const victims = [0, 1].map((seed) =>
      collect(
        engine.engine.generate(
          request(randomTokens(seed, length, VOCAB), { sampling: { maxTokens: 28 }, signal }),
        ),
      ),
    );
    const kept = keep.map((item) => collect(engine.engine.generate(item)));
    await until(() => engine.engine.stats().numSteps >= steps, 'under way');
    controller.abort();
    for (const victim of victims) assert.equal((await victim).finish, 'cancelled');
    await freedWithinOneStep(engine, 2);
    (await Promise.all(kept)).forEach((result, i) => assertSame(result, wanted[i]!, `kept ${i}`));
    await engine.dispose();
  }
});

test('a signal aborted before the start: cancelled at once, nothing runs', async () => {
  const engine = await model.open();
  const result = await collect(engine.engine.generate(request(prompt, { signal: AbortSignal.abort() })));
  assert.deepEqual([result.finish, result.tokens], ['cancelled', []]);
  assert.deepEqual([engine.engine.stats().numWaiting, engine.engine.stats().numSteps], [0, 0]);
  await engine.dispose();
});

test('a waiting request that is cancelled leaves the queue at once', async () => {
  const engine = await model.open({ slots: 1 });
  const first = collect(engine.engine.generate(request(prompt, { sampling: LONG })));
  await until(() => engine.engine.stats().numRunning === 1, 'running');
  const controller = new AbortController();
  const second = collect(engine.engine.generate(request(prompt, { signal: controller.signal })));
  assert.equal(engine.engine.stats().numWaiting, 1);
  controller.abort();
  assert.equal(engine.engine.stats().numWaiting, 0);
  assert.equal((await second).finish, 'cancelled');
  assert.equal((await first).finish, 'length');
  await engine.dispose();
});

test('a reader that stops frees the slot', async () => {
  const engine = await model.open();
  for await (const event of engine.engine.generate(request(prompt, { sampling: LONG })))
    if (event.type === 'token') break;
  await freedWithinOneStep(engine, 0);

  const explicit = engine.engine.generate(request(prompt, { sampling: LONG }));
  await explicit.next();
  await explicit.return(undefined);
  await freedWithinOneStep(engine, 0);
  await engine.dispose();
});

test('a reader that never began frees the slot too', async () => {
  const engine = await model.open();
  const generation = engine.engine.generate(request(prompt, { sampling: LONG }));
  await generation.return(undefined);
  await freedWithinOneStep(engine, 0);
  assert.equal(engine.engine.stats().numWaiting, 0);
  assert.deepEqual(await generation.next(), { done: true, value: undefined });
  await engine.dispose();
});

test('return() while the reader waits for an event takes effect at once', async () => {
  const engine = await model.open({ slots: 1 });
  const blocking = collect(engine.engine.generate(request(prompt, { sampling: LONG })));
  await until(() => engine.engine.stats().numRunning === 1, 'running');
  const waiting = engine.engine.generate(request(prompt));
  const pending = waiting.next();
  const returned = waiting.return(undefined);
  assert.equal(engine.engine.stats().numWaiting, 0);
  assert.equal((await pending).value?.type, 'finish');
  assert.equal((await returned).done, true);
  assert.equal((await blocking).finish, 'length');
  await engine.dispose();
});

test('queue_full beyond maxWaiting, with Retry-After, and the others are served', async () => {
  const engine = await model.open({ slots: 2, maxWaiting: 3 });
  const running = [0, 1].map(() => collect(engine.engine.generate(request(prompt, { sampling: LONG }))));
  await until(() => engine.engine.stats().numRunning === 2, 'both slots taken');
  const waiting = [0, 1, 2].map(() => collect(engine.engine.generate(request(prompt))));
  assert.throws(
    () => engine.engine.generate(request(prompt)),
    (error) => expectError('queue_full')(error) && (error as GatewayError).retryAfterS === 1,
  );
  const results = await Promise.all([...running, ...waiting]);
  assert.deepEqual(
    results.map(({ finish }) => finish),
    Array.from({ length: 5 }, () => 'length'),
  );
  await engine.dispose();
});

test('requests that come together may fill the free slots besides the queue', async () => {
  const engine = await model.open({ slots: 3, maxWaiting: 0 });
  const burst = [0, 1, 2].map(() => collect(engine.engine.generate(request(prompt))));
  assert.throws(() => engine.engine.generate(request(prompt)), expectError('queue_full'));
  for (const result of await Promise.all(burst)) assert.equal(result.finish, 'length');
  await engine.dispose();
});

test('context_length_exceeded counts prompt, output and virtual tokens', async () => {
  const engine = await model.open({ contextLength: 32 });
  const prefix = await model.adapter('prefix-8', engine);
  const tooLong = (length: number, maxTokens: number, adapter: typeof prefix | null): void =>
    assert.throws(
      () =>
        engine.engine.generate(request(randomTokens(1, length, VOCAB), { adapter, sampling: { maxTokens } })),
      expectError('context_length_exceeded'),
    );
  tooLong(30, 3, null);
  tooLong(22, 3, prefix);
  assert.deepEqual([engine.engine.stats().numWaiting, engine.engine.stats().numRunning], [0, 0]);
  const fits = await collect(
    engine.engine.generate(
      request(randomTokens(1, 21, VOCAB), { adapter: prefix, sampling: { maxTokens: 3 } }),
    ),
  );
  assert.equal(fits.tokens.length, 3);
  await engine.dispose();
});

test('dispose ends running and waiting requests as cancelled and frees every handle', async () => {
  const engine = await model.open({ slots: 2 });
  const all = Array.from({ length: 6 }, (_, i) =>
    collect(engine.engine.generate(request(prompt, { adapter: i % 2 ? lora : null, sampling: LONG }))),
  );
  await until(() => engine.engine.stats().numSteps >= 4, 'under way');
  assert(engine.liveHandles() > 0);
  await engine.dispose();
  assert.deepEqual(
    (await Promise.all(all)).map(({ finish }) => finish),
    Array.from({ length: 6 }, () => 'cancelled'),
  );
  assert.equal(engine.liveHandles(), 0);
  assert.throws(() => engine.engine.generate(request(prompt)), expectError('unavailable'));
});

test('virtual tokens asked for at or after dispose are refused, not left hanging', async () => {
  const engine = await model.open();
  const { hiddenSize } = model.artifact.manifest.architecture;
  const embeddings = {
    kind: 'prompt',
    hash: 'p',
    numVirtualTokens: 2,
    embeddings: new Float32Array(2 * hiddenSize),
  } as const;
  const running = collect(engine.engine.generate(request(prompt, { sampling: LONG })));
  await until(() => engine.engine.stats().numSteps >= 2, 'under way');
  const pending = assert.rejects(engine.engine.computePrefix(embeddings), expectError('unavailable'));
  await engine.dispose();
  await pending;
  await assert.rejects(engine.engine.computePrefix(embeddings), expectError('unavailable'));
  assert.equal((await running).finish, 'cancelled');
});

test('native objects do not grow with the number of requests', async () => {
  const engine = await model.open();
  const round = async (): Promise<number> => {
    const adapters = [null, lora, randomLora(model.artifact.manifest.architecture, 42)];
    await Promise.all(
      adapters.map((adapter) => collect(engine.engine.generate(request(prompt, { adapter })))),
    );
    return engine.liveHandles();
  };
  await round();
  const before = await round();
  for (let i = 0; i < 5; i++) await round();
  assert.equal(engine.liveHandles(), before);
  await engine.dispose();
});
