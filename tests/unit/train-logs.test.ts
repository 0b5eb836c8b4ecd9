// The files that a run's events are written to: LLaMA-Factory's line format, and event files that TensorBoard itself reads.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { EvalEvent, StepEvent, TrainingEvent } from '../../src/train/events.js';
import { crc32c } from '../../src/train/monitor/crc32c.js';
import { NO_FIGURES, updateFigures } from '../../src/train/monitor/figures.js';
import { openTensorBoard } from '../../src/train/monitor/tensorboard.js';
import { openTrainerLog, timeText } from '../../src/train/monitor/trainer-log.js';
import { TRAINER_LOG } from '../../src/train/run-types.js';
import { TENSORBOARD_FOLDER } from '../../src/train/reporter.js';
import { chains, sequenceSource } from '../helpers/token-data.js';
import { bigramModel } from '../helpers/token-models.js';
import { eventsOf, runSmall, temporaryFolder } from '../helpers/training-runs.js';

const preference = { rewardsChosen: 0.5, rewardsRejected: -0.25, rewardsMargins: 0.75, rewardsAccuracies: 1 };

function stepEvent(step: number, changes: Partial<StepEvent> = {}): StepEvent {
  return {
    ...{
      type: 'step',
      step,
      totalSteps: 8,
      epoch: step / 4,
      loss: 2 / step,
      learningRate: 0.5,
      gradNorm: 1.5,
    },
    ...{
      numSupervised: 10,
      tokensPerSecond: 123.456,
      elapsedS: 62 * step,
      remainingS: 100,
      preference: null,
    },
    ...changes,
  };
}

function evalEvent(step: number, changes: Partial<EvalEvent> = {}): EvalEvent {
  return { type: 'eval', step, epoch: step / 4, loss: 1.25, isBest: true, preference: null, ...changes };
}

const linesOf = (folder: string): Record<string, unknown>[] =>
  readFileSync(join(folder, TRAINER_LOG), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line): Record<string, unknown> => JSON.parse(line));

test('lines are those of LLaMA-Factory, without the keys that have no value', (t) => {
  const folder = temporaryFolder(t);
  const log = openTrainerLog(folder, 0);
  log.write(stepEvent(1));
  log.write({ type: 'message', level: 'info', message: 'no line' });
  log.write(stepEvent(2, { preference }));
  log.write(evalEvent(2));
  log.close();
  const progress = { percentage: 25, elapsed_time: '0:02:04', remaining_time: '0:01:40' };
  assert.deepEqual(linesOf(folder), [
    {
      ...{ current_steps: 1, total_steps: 8, loss: 2, lr: 0.5, epoch: 0.25, percentage: 12.5 },
      ...{ elapsed_time: '0:01:02', remaining_time: '0:01:40', throughput: 123.46 },
    },
    {
      ...{ current_steps: 2, total_steps: 8, loss: 1, accuracy: 1, lr: 0.5, epoch: 0.5 },
      ...progress,
      throughput: 123.46,
    },
    { current_steps: 2, total_steps: 8, eval_loss: 1.25, epoch: 0.5, ...progress },
  ]);
});

test('a run that goes on from a checkpoint writes each step once', (t) => {
  const folder = temporaryFolder(t);
  const first = openTrainerLog(folder, 0);
  for (const step of [1, 2, 3, 4]) first.write(stepEvent(step));
  first.close();
  appendFileSync(join(folder, TRAINER_LOG), '{"current_steps": 5, "los');
  const second = openTrainerLog(folder, 2);
  for (const step of [3, 4, 5]) second.write(stepEvent(step, { loss: 9 }));
  second.close();
  assert.deepEqual(
    linesOf(folder).map((line) => [line['current_steps'], line['loss']]),
    [
      [1, 2],
      [2, 1],
      [3, 9],
      [4, 9],
      [5, 9],
    ],
  );
});

test('times are as Python writes them', () => {
  assert.deepEqual([0, 3661.9, 86_399, 86_400, 200_000].map(timeText), [
    '0:00:00',
    '1:01:01',
    '23:59:59',
    '1 day, 0:00:00',
    '2 days, 7:33:20',
  ]);
});

test("CRC-32C of RFC 3720's examples", () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e);
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283);
});

/** Every scalar in the folder, as TensorBoard has it: tag -> [[step, value], ...]. null where TensorBoard cannot be run. */
function readByTensorBoard(t: TestContext, folder: string): Record<string, [number, number][]> | null {
  const python = process.env['TENSORBOARD_PYTHON'] ?? 'python3';
  const script = [
    'import json, sys',
    'from tensorboard.backend.event_processing.event_accumulator import EventAccumulator',
    'reader = EventAccumulator(sys.argv[1]).Reload()',
    "tags = reader.Tags()['scalars']",
    'print(json.dumps({tag: [[e.step, e.value] for e in reader.Scalars(tag)] for tag in tags}))',
  ].join('\n');
  const probe = spawnSync(python, ['-c', 'import tensorboard']);
  if (probe.status !== 0) {
    t.skip(`needs TensorBoard: ${python} cannot import it (set TENSORBOARD_PYTHON to one that can)`);
    return null;
  }
  const { status, stdout, stderr } = spawnSync(python, ['-c', script, folder], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const scalars: Record<string, [number, number][]> = JSON.parse(stdout);
  return scalars;
}

test('TensorBoard reads the scalars, and forgets steps that were done again', (t) => {
  const folder = temporaryFolder(t);
  let now = 1_700_000_000_000;
  const clock = () => (now += 1000);
  const write = (doneSteps: number, events: readonly TrainingEvent[]) => {
    const log = openTensorBoard(folder, doneSteps, clock);
    for (const event of events) log.write(event);
    log.close();
  };
  write(0, [stepEvent(1), stepEvent(2), evalEvent(2, { preference }), stepEvent(3), stepEvent(4)]);
  write(2, [stepEvent(3, { loss: 9, preference }), { type: 'message', level: 'info', message: 'none' }]);
  const scalars = readByTensorBoard(t, folder);
  if (scalars === null) return;
  assert.deepEqual(scalars['train/loss'], [
    [1, 2],
    [2, 1],
    [3, 9],
  ]);
  assert.deepEqual(scalars['train/learning_rate']![0], [1, 0.5]);
  assert.deepEqual(scalars['train/grad_norm']![1], [2, 1.5]);
  assert.deepEqual(scalars['eval/loss'], [[2, 1.25]]);
  assert.deepEqual(scalars['eval/rewards/margins'], [[2, 0.75]]);
  assert.deepEqual(scalars['train/rewards/chosen'], [[3, 0.5]]);
});

test('event files are TFRecords whose checksums are right', (t) => {
  const folder = temporaryFolder(t);
  const log = openTensorBoard(folder, 0, () => 1_700_000_000_000);
  log.write(stepEvent(1));
  log.write(stepEvent(2));
  log.close();
  const [name] = readdirSync(folder);
  assert.match(name!, /^events\.out\.tfevents\.1700000000\./);
  const bytes = readFileSync(join(folder, name!));
  const unmask = (masked: number) => {
    const rotated = (masked - 0xa282ead8) >>> 0;
    return ((rotated >>> 17) | (rotated << 15)) >>> 0;
  };
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    assert.equal(unmask(bytes.readUInt32LE(at + 8)), crc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    assert.equal(unmask(bytes.readUInt32LE(at + 12 + length)), crc32c(data));
    records.push(data);
    at += 16 + length;
  }
  assert.equal(records.length, 3);
  assert(records[0]!.includes('brain.Event:2'));
  for (const record of records) assert.equal(record.readDoubleLE(1), 1_700_000_000);
  assert(records[1]!.includes('train/loss'));
});

test('a whole run, broken off once, has every step once in both files', async (t) => {
  const folder = temporaryFolder(t);
  const source = sequenceSource(chains({ vocabSize: 16, numSequences: 16, length: 8 }), { batchSize: 4 });
  const parts = () => ({ tokenModel: bigramModel(16), batches: source, evalBatches: source });
  let isThree = false;
  await runSmall(folder, {
    ...parts(),
    options: { saveSteps: 2 },
    control: () => (isThree ? 'cancel' : 'run'),
    onEvent: (event) => (isThree ||= event.type === 'step' && event.step === 3),
  });
  await runSmall(folder, { ...parts(), options: { saveSteps: 2 } });
  const lines = linesOf(folder);
  const steps = lines.filter((line) => 'loss' in line).map((line) => line['current_steps']);
  assert.deepEqual(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(
    lines.filter((line) => 'eval_loss' in line).map((line) => line['current_steps']),
    [4, 8],
  );
  const scalars = readByTensorBoard(t, join(folder, TENSORBOARD_FOLDER));
  if (scalars === null) return;
  assert.deepEqual(
    scalars['train/loss']!.map(([step]) => step),
    steps,
  );
});

test('figures are the last of each, and sums where they are sums', async (t) => {
  const source = sequenceSource(chains({ vocabSize: 16, numSequences: 16, length: 8 }), { batchSize: 4 });
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: bigramModel(16),
    batches: source,
    evalBatches: source,
  });
  const figures = run.events.reduce(updateFigures, NO_FIGURES);
  const last = eventsOf(run, 'step').at(-1)!;
  const evals = eventsOf(run, 'eval');
  assert.deepEqual(
    [figures.step, figures.totalSteps, figures.loss, figures.gradNorm],
    [8, 8, last.loss, last.gradNorm],
  );
  assert.equal(figures.numSupervisedTokens, 2 * 16 * 7);
  assert.equal(figures.evalLoss, evals.at(-1)!.loss);
  assert.equal(figures.bestEvalLoss, Math.min(...evals.map(({ loss }) => loss)));
  assert.equal(figures.numCheckpoints, eventsOf(run, 'checkpoint').length);
  assert.deepEqual([figures.rewardsMargins, figures.numFaults], [null, 0]);
  assert.equal(updateFigures(figures, stepEvent(9, { preference })).rewardsMargins, 0.75);
});
