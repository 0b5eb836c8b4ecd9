// `train` and `plan` with a trainer of the test's own: what a run is given, what the user sees, and what an interrupt does.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { plan } from '../../src/cli/plan.js';
import { train } from '../../src/cli/train.js';
import type { TrainingTools } from '../../src/cli/train/tools.js';
import { GatewayError } from '../../src/errors.js';
import { countTrained } from '../../src/train/plan/parameter-counts.js';
import type { Outcome, StepEvent } from '../../src/train/events.js';
import type { Run, RunRequest } from '../../src/train/run-types.js';
import { ByteTokenizer } from '../helpers/byte-tokenizer.js';
import { fakeTerminal, type FakeTerminal } from '../helpers/fake-terminal.js';
import { tinyModel, type TinyModel } from '../helpers/tiny-model.js';

const SETTINGS = { weights: 'q4', dataDir: '/nowhere', threads: 1 } as const;
const FINISHED: Outcome = { kind: 'finished', step: 2, bestStep: 1 };

let model: TinyModel;
let folder: string;
let terminal: FakeTerminal;

before(async () => {
  model = await tinyModel('llama-untied');
});
after(() => model.dispose());
beforeEach((context) => {
  folder = mkdtempSync(join(tmpdir(), 'train-'));
  terminal = fakeTerminal({}, folder);
  mkdirSync(join(folder, 'data'));
  const rows = ['red', 'green', 'blue'].map((output) => ({ instruction: 'A colour?', input: '', output }));
  writeFileSync(join(folder, 'data', 'colours.json'), JSON.stringify(rows));
  writeFileSync(
    join(folder, 'data', 'dataset_info.json'),
    JSON.stringify({ colours: { file_name: 'colours.json' } }),
  );
  writeFile('');
  if ('after' in context) context.after(() => rmSync(folder, { recursive: true, force: true }));
});

function writeFile(more: string): void {
  writeFileSync(
    join(folder, 'sft.yaml'),
    `model_name_or_path: some/base\ndataset: colours\noutput_dir: saves/colour run\ncutoff_len: 64\nper_device_train_batch_size: 2\nlogging_steps: 1\n${more}`,
  );
}

function stepEvent(step: number): StepEvent {
  return {
    type: 'step',
    step,
    totalSteps: 2,
    epoch: step / 2,
    loss: 3 - step,
    learningRate: 1e-4,
    gradNorm: 1,
    numSupervised: 10,
    tokensPerSecond: 99.6,
    elapsedS: step,
    remainingS: 62,
    preference: null,
  };
}

/** A run that leaves an adapter, as the trainer does. */
const quickRun: Run = (request, hooks) => {
  leaveAdapter(request.folder);
  hooks.emit(stepEvent(1));
  hooks.emit({ type: 'eval', step: 1, epoch: 0.5, loss: 1.5, isBest: true, preference: null });
  hooks.emit(stepEvent(2));
  hooks.emit({
    type: 'diagnosis',
    step: 2,
    fault: 'overfitting',
    message: 'It rises',
    prescription: 'fewer epochs',
  });
  return Promise.resolve(FINISHED);
};

function leaveAdapter(runFolder: string): void {
  mkdirSync(join(runFolder, 'adapter'), { recursive: true });
  mkdirSync(join(runFolder, 'checkpoints', 'step-00000002'), { recursive: true });
  writeFileSync(join(runFolder, 'adapter', 'adapter_config.json'), '{}');
}

async function run(overrides: readonly string[] = [], doRun: Run = quickRun) {
  const requests: RunRequest[] = [];
  const models: string[] = [];
  const tools: TrainingTools = {
    prepareModel: (name) => {
      models.push(name);
      return Promise.resolve(model.artifact.folder);
    },
    openTokenizer: () => Promise.resolve(new ByteTokenizer()),
    measureTrial: () => Promise.reject(new Error('a trial was made')),
    run: (request, hooks) => {
      requests.push(request);
      return doRun(request, hooks);
    },
  };
  const code = await train('sft.yaml', overrides, SETTINGS, terminal, tools);
  return { code, requests, models, out: terminal.out(), err: terminal.err() };
}

const output = () => join(folder, 'saves', 'colour run');

test('a run gets the whole request, and its adapter is printed with how to serve it', async () => {
  const { code, requests, models, out, err } = await run([
    'num_train_epochs=1',
    'val_size=1',
    'max_samples=3',
  ]);
  assert.equal(code, 0);
  assert.deepEqual(models, ['some/base']);
  const [request] = requests;
  assert.equal(request!.artifactFolder, model.artifact.folder);
  assert.equal(request!.folder, output());
  assert.equal(request!.threads, 1);
  assert.equal(request!.validationFile, null);
  assert.equal(request!.options.epochs, 1);
  assert.equal(request!.options.validationShare, 1 / 3);
  assert.deepEqual(
    readFileSync(request!.trainingFiles[0]!.path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object),
    ['red', 'green', 'blue'].map((content) => ({
      messages: [
        { role: 'user', content: 'A colour?' },
        { role: 'assistant', content },
      ],
    })),
  );
  const adapter = join(output(), 'adapter');
  assert.equal(out, `${adapter}\n`);
  assert.match(err, /steps: 1, 1 an epoch/);
  assert.match(err, /step 1: loss 2\.0000, lr 1\.00e-4, 100 tok\/s, 0:01:02 left\n/);
  assert.match(err, /step 1: held-out loss 1\.5000, the best so far\n/);
  assert.match(err, /step 2: overfitting: It rises; to change: fewer epochs\n/);
  assert(err.includes(`graft serve --model some/base --adapter colour-run=${adapter}`), err);
  assert(err.includes(`graft adapters add colour-run ${adapter}`), err);
  assert.deepEqual(JSON.parse(readFileSync(join(output(), 'all_results.json'), 'utf8')), {
    outcome: 'finished',
    step: 2,
    best_step: 1,
    epoch: 1,
    train_loss: 1.5,
    train_runtime: 2,
    train_steps_per_second: 1,
    num_supervised_tokens: 20,
    eval_loss: 1.5,
    trainable_params: countTrained(model.artifact.manifest.architecture, request!.options.method),
    diagnoses: ['overfitting'],
  });
});

test('notes, overrides and the options of the command line reach the run', async () => {
  writeFile('fp16: true\nlora_rank: 4\n');
  const { requests, err } = await run(['lora_rank=2', 'stage=sft', 'seed=7']);
  const { method, seed } = requests[0]!.options;
  assert(method.name === 'lora');
  assert.deepEqual([method.rank, method.alpha, seed], [2, 4, 7]);
  assert.match(err, /^fp16: sums, results and what is trained are 32-bit floats\n/);
});

test('a file with problems runs nothing', async () => {
  await assert.rejects(run(['stage=rm', 'lora_rnak=2']), (error) => {
    assert(error instanceof GatewayError && error.code === 'invalid_config');
    assert.match(
      error.message,
      /^Unsupported `stage: rm`.*\nUnknown key `lora_rnak`; did you mean lora_rank\?/,
    );
    return true;
  });
  await assert.rejects(run(['dataset=shades']), /`shades`: is not there. Known are colours/);
  await assert.rejects(run(['dataset_dir=nowhere']), /a file at .*nowhere\/dataset_info\.json/);
  await assert.rejects(run(['dataset=none.jsonl']), /a file at .*none\.jsonl/);
  assert(!existsSync(output()));
});

test('data files, evaluation data and mask_history', async () => {
  const turns = ['hi', 'hello', 'bye', 'see you'].map((content, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content,
  }));
  writeFileSync(join(folder, 'chats.jsonl'), `${JSON.stringify({ messages: turns })}\n`);
  const { requests } = await run([
    'dataset=chats.jsonl',
    'eval_dataset=colours',
    'mask_history=true',
    'cutoff_len=128',
  ]);
  const [training] = requests[0]!.trainingFiles;
  const { messages } = JSON.parse(readFileSync(training!.path, 'utf8')) as {
    messages: { weight?: number }[];
  };
  assert.deepEqual(
    messages.map(({ weight }) => weight),
    [undefined, 0, undefined, undefined],
  );
  assert.equal(readFileSync(requests[0]!.validationFile!.path, 'utf8').split('\n').length, 4);
});

test('a folder with a run is taken up, or begun anew, or refused', async () => {
  await run();
  const first = await run();
  assert.equal(first.code, 0);
  assert.match(first.err, /holds a run, which is taken up at its last checkpoint/);
  writeFileSync(join(output(), 'notes.txt'), 'mine');
  let seen: string[] = [];
  await run(['overwrite_output_dir=true'], (request, hooks) => {
    seen = readdirSync(request.folder).toSorted();
    return quickRun(request, hooks);
  });
  assert.deepEqual(seen, ['data', 'notes.txt']);
  const checkpoint = join(output(), 'checkpoints', 'step-00000002');
  assert.equal((await run([`resume_from_checkpoint=${checkpoint}/`])).code, 0);
  await assert.rejects(
    run(['resume_from_checkpoint=elsewhere']),
    /to be the newest checkpoint of `output_dir`, .*step-00000002/,
  );
  rmSync(join(output(), 'checkpoints'), { recursive: true });
  await assert.rejects(
    run(['resume_from_checkpoint=true']),
    /Expected a checkpoint in .*checkpoints, there is none/,
  );
  await assert.rejects(run(), /holds an adapter and no checkpoint.*overwrite_output_dir: true/);
});

test('the first interrupt ends the run after its step, with an adapter', async () => {
  const { code, out, err } = await run([], async (request, hooks) => {
    assert.equal(hooks.control(), 'run');
    hooks.emit(stepEvent(1));
    terminal.interrupt();
    await hooks.yieldPoint();
    assert.equal(hooks.control(), 'stop');
    leaveAdapter(request.folder);
    return { kind: 'stopped', step: 1, bestStep: 1 };
  });
  assert.equal(code, 130);
  assert.equal(out, `${join(output(), 'adapter')}\n`);
  assert.match(err, /ending after this step; interrupt again to end at once\n/);
  assert.match(err, /interrupted at step 1/);
});

test('the second interrupt ends at once', async () => {
  const { code, out } = await run([], async () => {
    terminal.interrupt();
    terminal.interrupt();
    return new Promise<Outcome>(() => undefined);
  });
  assert.deepEqual([code, out], [130, '']);
});

test('a run that fails ends with 1 and says why', async () => {
  const { code, out, err } = await run([], () =>
    Promise.resolve({ kind: 'failed', step: 3, code: 'non_finite', message: 'the loss is NaN' }),
  );
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /the loss is NaN \(non_finite at step 3\)\n/);
});

test('plan prints what a run needs, and runs nothing', async () => {
  const tools = {
    prepareModel: () => Promise.resolve(model.artifact.folder),
    openTokenizer: () => Promise.resolve(new ByteTokenizer()),
    measureTrial: () => Promise.reject(new Error('a trial was made')),
  };
  const settings = { ...SETTINGS, tokensPerSecond: 48 };
  assert.equal(await plan('sft.yaml', ['num_train_epochs=2'], settings, terminal, tools), 0);
  const out = terminal.out();
  assert.match(out, /^base: [\d,]+ parameters; trained: [\d,]+ \([\d.]+ %\)\n/);
  assert.match(out, /\ndata: 3 examples, longest row 64 tokens\n/);
  assert.match(out, /\nsteps: 4, 2 an epoch; tokens: \d+, with padding 320\nmemory: /);
  assert.match(out, /\n {2}frozen blocks +0 MB\n/);
  assert.match(out, /\ntime: 0:00:06 at 48 tokens a second\n$/);
  assert(!existsSync(output()));
});
