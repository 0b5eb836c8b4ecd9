// The scheduler's policy on its own: what runs next, and which prompts run side by side.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PrefixAdapter, ServingAdapter } from '../../src/adapters/types.js';
import { randomStream } from '../../src/engine/random.js';
import { nextRun, type Run, type SchedulerLimits } from '../../src/engine/scheduler.js';
import { Sequence } from '../../src/engine/sequence.js';
import { request } from '../helpers/tiny-model.js';

const LIMITS: SchedulerLimits = { prefillChunk: 16, logprobChunk: 4, batchPrompts: true };
const ONE_BY_ONE: SchedulerLimits = { ...LIMITS, batchPrompts: false };

interface Options {
  readonly adapter?: ServingAdapter | null;
  readonly promptLogprobs?: boolean;
  readonly numComputed?: number;
  readonly admission?: number;
}

function sequence(promptLength: number, options: Options = {}): Sequence {
  const { adapter = null, promptLogprobs = false, numComputed = 0, admission = 0 } = options;
  const prompt = Array.from({ length: promptLength }, (_, i) => i);
  const made = new Sequence(request(prompt, { adapter, promptLogprobs }), [], () => 0);
  made.numComputed = numComputed;
  made.admission = admission;
  return made;
}

test('nothing to do, only decoding, only prefill', () => {
  assert.equal(nextRun(0, [], false, LIMITS), null);
  assert.equal(nextRun(0, [], true, LIMITS), null);
  assert.deepEqual(nextRun(2, [], true, LIMITS), { kind: 'decode' });
  const only = sequence(40);
  for (const lastWasPrefill of [true, false])
    assert.deepEqual(nextRun(0, [only], lastWasPrefill, LIMITS), {
      kind: 'chunk',
      sequence: only,
      start: 0,
      end: 16,
    });
});

test('while rows decode, prefill runs and decode steps alternate', () => {
  const long = sequence(100);
  const kinds: string[] = [];
  let lastWasPrefill = false;
  for (let i = 0; i < 8; i++) {
    const run: Run = nextRun(3, [long], lastWasPrefill, LIMITS)!;
    kinds.push(run.kind);
    lastWasPrefill = run.kind !== 'decode';
    if (run.kind === 'chunk') long.numComputed = run.end;
  }
  assert.deepEqual(kinds, ['chunk', 'decode', 'chunk', 'decode', 'chunk', 'decode', 'chunk', 'decode']);
});

test('chunks cover the prompt from what is cached to its end', () => {
  const long = sequence(41, { numComputed: 16 });
  const ranges: number[][] = [];
  while (long.numComputed < long.numPrompt) {
    const run: Run | null = nextRun(0, [long], true, LIMITS);
    assert(run?.kind === 'chunk');
    ranges.push([run.start, run.end]);
    long.numComputed = run.end;
  }
  assert.deepEqual(ranges, [
    [16, 32],
    [32, 41],
  ]);
});

test('short prompts run side by side as far as each, padded to the longest, fits one run', () => {
  const count = (...lengths: number[]): number => {
    const run = nextRun(
      0,
      lengths.map((length, i) => sequence(length, { admission: i })),
      false,
      LIMITS,
    );
    return run?.kind === 'prompts' ? run.sequences.length : 1;
  };
  assert.equal(count(4, 4, 4, 4), 4);
  assert.equal(count(4, 4, 4, 4, 4), 4, 'four times four tokens fill the run');
  assert.equal(count(2, 2, 5, 5), 3, 'four times five would be too many');
  assert.equal(count(8, 8), 2);
  assert.equal(count(8, 9), 1);
  assert.equal(count(9, 8), 1);
  assert.equal(count(1, 40, 1), 1);
});

test('random prompts: a joint run never holds more than a run may', () => {
  const random = randomStream(4);
  let numJoint = 0;
  for (let i = 0; i < 500; i++) {
    const waiting = Array.from({ length: 1 + Math.floor(random() * 6) }, (_, admission) =>
      sequence(1 + Math.floor(random() * 12), { admission }),
    );
    const run = nextRun(0, waiting, false, LIMITS);
    if (run?.kind !== 'prompts') continue;
    numJoint++;
    assert(
      run.sequences.length * Math.max(...run.sequences.map(({ numPrompt }) => numPrompt)) <=
        LIMITS.prefillChunk,
    );
    assert.deepEqual(run.sequences, waiting.slice(0, run.sequences.length), 'the leading ones, in order');
  }
  assert(numJoint > 100);
});

test('only prompts that begin at nothing run side by side', () => {
  const prefix: PrefixAdapter = { kind: 'prefix', hash: 'p', sizeBytes: 0, numVirtualTokens: 2, layers: [] };
  const others: Options[] = [{ promptLogprobs: true }, { numComputed: 2 }, { adapter: prefix }];
  for (const options of others) {
    const odd = sequence(4, { ...options, admission: 1 });
    const [first, last] = [sequence(4), sequence(4, { admission: 2 })];
    assert.equal(nextRun(0, [first, odd, last], false, LIMITS)?.kind, 'chunk');
    assert.equal(nextRun(0, [odd, first, last], false, LIMITS)?.kind, 'chunk');
    const run = nextRun(0, [first, sequence(4, { admission: 1 }), odd], false, LIMITS);
    assert(run?.kind === 'prompts' && run.sequences.length === 2);
  }
});

test('prompt log-probabilities run alone, in smaller chunks', () => {
  const run = nextRun(
    0,
    [sequence(10, { promptLogprobs: true }), sequence(2, { admission: 1 })],
    false,
    LIMITS,
  );
  assert(run?.kind === 'chunk');
  assert.deepEqual([run.start, run.end], [0, 4]);
});

test('batchPrompts off runs one prompt at a time', () => {
  assert.equal(nextRun(0, [sequence(2), sequence(2, { admission: 1 })], false, ONE_BY_ONE)?.kind, 'chunk');
});

test('a prompt that was moved behind a newer one still runs first', () => {
  const old = sequence(40, { numComputed: 16, admission: 3 });
  const newer = [sequence(4, { admission: 9 }), sequence(4, { admission: 8 })];
  for (const order of [
    [old, ...newer],
    [...newer, old],
  ]) {
    const run = nextRun(0, order, false, LIMITS);
    assert(run?.kind === 'chunk');
    assert.equal(run.sequence, old);
  }
  const run = nextRun(0, [newer[0]!, newer[1]!], false, LIMITS);
  assert.deepEqual(run, { kind: 'prompts', sequences: newer });
});
