// Checkpoints: what is in one, which are kept, and that a run that goes on from one ends where the unbroken run ends, bit for bit.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Control } from '../../src/train/run-types.js';
import { readTensors } from '../helpers/adapter-fixtures.js';
import { chains, sequenceSource } from '../helpers/token-data.js';
import { bigramModel, twoLayerModel } from '../helpers/token-models.js';
import {
  adapterBytes,
  eventsOf,
  runSmall,
  type RunParts,
  temporaryFolder,
} from '../helpers/training-runs.js';

const data = chains({ vocabSize: 16, numSequences: 22, length: 10 });
const heldOut = chains({ vocabSize: 16, numSequences: 8, length: 10, seed: 2 });

/** Accumulation with a partial window, dropout, evaluations, decay: all that a run can have. */
function everything(): RunParts {
  return {
    tokenModel: twoLayerModel(16, { hidden: 6, dropout: 0.2 }),
    batches: sequenceSource(data, { batchSize: 2 }),
    evalBatches: sequenceSource(heldOut, { batchSize: 4, seed: null }),
    options: {
      accumulation: 3,
      epochs: 3,
      weightDecay: 0.1,
      learningRate: 0.05,
      evalSteps: 4,
      saveSteps: 3,
      warmupRatio: 0.1,
    },
  };
}

const checkpointsOf = (folder: string) => readdirSync(join(folder, 'checkpoints')).toSorted();

/** Stops the run once it has done `step` steps and the trainer has asked `numAsked` times since. */
function stopAt(step: number, numAsked: number): Required<Pick<RunParts, 'control' | 'onEvent'>> {
  let isReached = false;
  let asked = 0;
  return {
    control: (): Control => (isReached && ++asked > numAsked ? 'pause' : 'run'),
    onEvent(event) {
      if (event.type === 'step' && event.step === step) isReached = true;
    },
  };
}

/** All that decides the rest of a run, as its last checkpoint has it; times aside. */
function lastState(folder: string): Record<string, unknown> {
  const path = join(folder, 'checkpoints', checkpointsOf(folder).at(-1)!);
  const { elapsedMs: _, ...state }: Record<string, unknown> = JSON.parse(
    readFileSync(join(path, 'state.json'), 'utf8'),
  );
  const tensors = readdirSync(path).filter((name) => name.endsWith('.safetensors'));
  return { ...state, ...Object.fromEntries(tensors.map((name) => [name, readFileSync(join(path, name))])) };
}

async function unbroken(t: TestContext): Promise<string> {
  const folder = temporaryFolder(t);
  const { outcome } = await runSmall(folder, everything());
  assert.equal(outcome.step, 12);
  return folder;
}

test('a run that is broken off again and again ends in the state of the unbroken one', async (t) => {
  const whole = await unbroken(t);
  // In a window, between two steps, in an evaluation (after steps 4 and 8) and after one.
  for (const numAsked of [0, 1, 2, 3, 4]) {
    const folder = temporaryFolder(t);
    for (const step of [1, 4, 8, 11]) {
      const { outcome } = await runSmall(folder, { ...everything(), ...stopAt(step, numAsked) });
      assert.equal(outcome.kind, 'stopped');
    }
    const last = await runSmall(folder, everything());
    assert.equal(last.outcome.kind, 'finished');
    assert.deepEqual(lastState(folder), lastState(whole), `asked ${numAsked} times`);
    assert(adapterBytes(folder).equals(adapterBytes(whole)));
  }
});

test('an evaluation that was broken off is made by the run that goes on', async (t) => {
  const folder = temporaryFolder(t);
  const broken = await runSmall(folder, { ...everything(), ...stopAt(4, 1) });
  assert.deepEqual([eventsOf(broken, 'step').at(-1)!.step, eventsOf(broken, 'eval')], [4, []]);
  const on = await runSmall(folder, everything());
  assert.equal(eventsOf(on, 'eval')[0]!.step, 4);
  assert.equal(eventsOf(on, 'step')[0]!.step, 5);
});

test('a finished run that is started again does nothing, and ends the same way', async (t) => {
  const folder = await unbroken(t);
  const before = adapterBytes(folder);
  const again = await runSmall(folder, everything());
  assert.equal(again.outcome.kind, 'finished');
  assert.deepEqual(eventsOf(again, 'step'), []);
  assert(adapterBytes(folder).equals(before));
});

test('an early stop stays one when the run is started again', async (t) => {
  const folder = temporaryFolder(t);
  const parts = (): RunParts => ({
    tokenModel: bigramModel(32),
    batches: sequenceSource(chains({ vocabSize: 32, numSequences: 12, length: 12, order: 0.6 }), {
      batchSize: 4,
    }),
    evalBatches: sequenceSource(
      chains({ vocabSize: 32, numSequences: 32, length: 12, order: 0.6, seed: 2 }),
      { batchSize: 16, seed: null },
    ),
    options: { epochs: 40, learningRate: 0.2, earlyStoppingPatience: 3 },
  });
  const first = await runSmall(folder, parts());
  assert.equal(first.outcome.kind, 'early_stopped');
  assert.deepEqual((await runSmall(folder, parts())).outcome, first.outcome);
});

test('a checkpoint holds the state, the tensors, and a usable adapter', async (t) => {
  const folder = temporaryFolder(t);
  const parts = everything();
  await runSmall(folder, { ...parts, ...stopAt(4, 1) });
  const path = join(folder, 'checkpoints', 'step-00000004');
  assert.deepEqual(readdirSync(path).toSorted(), [
    'adapter',
    'first-moments.safetensors',
    'parameters.safetensors',
    'second-moments.safetensors',
    'state.json',
  ]);
  const state = lastState(folder);
  const expected = {
    format: 1,
    method: 'token-table',
    seed: 42,
    step: 4,
    epoch: 1,
    microBatch: 0,
    numUpdates: 4,
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(state[key], value, key);
  assert.equal(state['owesEvaluation'], true);
  const tensors = readTensors(readFileSync(join(path, 'parameters.safetensors')));
  for (const { name, shape, values } of parts.tokenModel.model.parameters)
    assert.deepEqual(tensors.get(name), { shape, data: values });
});

test('the newest checkpoints are kept, and the best one', async (t) => {
  const folder = temporaryFolder(t);
  const parts = everything();
  await runSmall(folder, {
    ...parts,
    evalBatches: null,
    options: { ...parts.options, saveSteps: 1, keepCheckpoints: 3 },
  });
  assert.deepEqual(checkpointsOf(folder), ['step-00000010', 'step-00000011', 'step-00000012']);
  const none = temporaryFolder(t);
  await runSmall(none, {
    ...everything(),
    evalBatches: null,
    options: { ...parts.options, saveSteps: 1, keepCheckpoints: 0 },
  });
  assert.deepEqual(checkpointsOf(none), ['step-00000012'], 'the newest stays in any case');
});

test('a damaged checkpoint is left out, said so, and the one before it taken', async (t) => {
  const whole = await unbroken(t);
  for (const file of ['parameters.safetensors', 'second-moments.safetensors', 'state.json']) {
    const folder = temporaryFolder(t);
    await runSmall(folder, { ...everything(), ...stopAt(8, 100) });
    assert.deepEqual(checkpointsOf(folder).slice(-1), ['step-00000012'], 'it went on to the end');
    truncateSync(join(folder, 'checkpoints', 'step-00000012', file), 50);
    const on = await runSmall(folder, everything());
    const [warning, info] = eventsOf(on, 'message').map(({ message }) => message);
    assert.match(warning!, /the checkpoint of step 12 is damaged and left out: .*/);
    assert.match(info!, /going on from the checkpoint of step \d+/);
    assert.deepEqual(lastState(folder), lastState(whole));
  }
});

test('what a crash left half-written is swept, and is no checkpoint', async (t) => {
  const folder = temporaryFolder(t);
  const half = join(folder, 'checkpoints', '.tmp-step-00000007');
  mkdirSync(half, { recursive: true });
  writeFileSync(join(half, 'state.json'), '{"format":1,"step":7}');
  const run = await runSmall(folder, everything());
  assert.equal(eventsOf(run, 'step')[0]!.step, 1);
  assert(!existsSync(half));
});

test('a checkpoint of another run is refused, with what is different', async (t) => {
  const folder = await unbroken(t);
  const parts = everything();
  const changed: readonly (readonly [RegExp, RunParts])[] = [
    [/other options, data or parameters/, { ...parts, options: { ...parts.options, learningRate: 0.06 } }],
    [/other options/, { ...parts, batches: sequenceSource(heldOut, { batchSize: 2 }) }],
    [/other options/, { ...parts, evalBatches: null }],
    [/other options/, { ...parts, tokenModel: twoLayerModel(16, { hidden: 7 }) }],
    [
      /the method token-table instead of lora/,
      {
        ...parts,
        tokenModel: { ...parts.tokenModel, method: { ...parts.tokenModel.method, name: 'lora' } },
      },
    ],
  ];
  for (const [message, other] of changed)
    await assert.rejects(runSmall(folder, other), { code: 'invalid_value', message });
});

test('what only watches a run may change in between', async (t) => {
  const folder = temporaryFolder(t);
  const parts = everything();
  await runSmall(folder, { ...parts, ...stopAt(4, 0) });
  const on = await runSmall(folder, {
    ...everything(),
    options: { ...parts.options, sampleSteps: 5, samplePrompts: ['p'], keepCheckpoints: 9 },
  });
  assert.equal(on.outcome.kind, 'finished');
});
