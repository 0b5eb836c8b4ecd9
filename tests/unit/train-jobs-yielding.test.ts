// How a run gives way to requests: against a clock that only moves when told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createYielding, type YieldClock } from '../../src/train/jobs/yielding.js';

/** Sleeps end when the test moves the clock so far, or at their signal. */
class FakeClock implements YieldClock {
  nowMs = 0;
  #sleepers: { readonly untilMs: number; readonly wake: () => void }[] = [];

  now(): number {
    return this.nowMs;
  }

  sleep(durationMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((wake) => {
      this.#sleepers.push({ untilMs: this.nowMs + durationMs, wake });
      signal.addEventListener('abort', () => wake());
    });
  }

  async advance(durationMs: number): Promise<void> {
    this.nowMs += durationMs;
    for (const sleeper of this.#sleepers) if (sleeper.untilMs <= this.nowMs) sleeper.wake();
    await settled();
  }
}

/** Lets everything that can go on go on. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** The yield point, and whether it has let the run go on. */
async function arrive(yieldPoint: () => Promise<void>) {
  const state = { isThrough: false };
  void yieldPoint().then(() => (state.isThrough = true));
  await settled();
  return state;
}

test('an idle server holds nobody up', async () => {
  const clock = new FakeClock();
  const yielding = createYielding({ isOn: true, minShare: 0 }, clock);
  await clock.advance(100);
  assert((await arrive(yielding.yieldPoint)).isThrough);
});

test('a busy server has the run wait until it is idle', async () => {
  const clock = new FakeClock();
  const yielding = createYielding({ isOn: true, minShare: 0 }, clock);
  yielding.setBusy(true);
  await clock.advance(100);
  const run = await arrive(yielding.yieldPoint);
  await clock.advance(1_000_000);
  assert(!run.isThrough);
  yielding.setBusy(false);
  await settled();
  assert(run.isThrough);
});

test('with a least share, a piece of work is followed by what makes up the rest, counted from where the server became busy', async () => {
  const clock = new FakeClock();
  const yielding = createYielding({ isOn: true, minShare: 0.1 }, clock);
  await clock.advance(500);
  yielding.setBusy(true);
  await clock.advance(100);
  const first = await arrive(yielding.yieldPoint);
  await clock.advance(899);
  assert(!first.isThrough);
  await clock.advance(1);
  assert(first.isThrough);

  await clock.advance(20);
  const second = await arrive(yielding.yieldPoint);
  await clock.advance(179);
  assert(!second.isThrough);
  await clock.advance(1);
  assert(second.isThrough);
});

test('more requests while it waits do not make it wait longer', async () => {
  const clock = new FakeClock();
  const yielding = createYielding({ isOn: true, minShare: 0.5 }, clock);
  yielding.setBusy(true);
  await clock.advance(100);
  const run = await arrive(yielding.yieldPoint);
  await clock.advance(50);
  yielding.setBusy(true);
  await clock.advance(50);
  assert(run.isThrough);
});

test('a share of all, or yielding turned off, waits for nobody', async () => {
  for (const settings of [
    { isOn: true, minShare: 1 },
    { isOn: false, minShare: 0 },
  ]) {
    const clock = new FakeClock();
    const yielding = createYielding(settings, clock);
    yielding.setBusy(true);
    await clock.advance(100);
    assert((await arrive(yielding.yieldPoint)).isThrough);
  }
});

test('a run that is to end does not wait, and waits again where it is to go on after all', async () => {
  const clock = new FakeClock();
  const yielding = createYielding({ isOn: true, minShare: 0 }, clock);
  yielding.setBusy(true);
  await clock.advance(100);
  const run = await arrive(yielding.yieldPoint);
  assert(!run.isThrough);
  yielding.setEnding(true);
  await settled();
  assert(run.isThrough);
  assert((await arrive(yielding.yieldPoint)).isThrough);
  yielding.setEnding(false);
  await clock.advance(100);
  assert(!(await arrive(yielding.yieldPoint)).isThrough);
});
