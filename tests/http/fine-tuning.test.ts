// /v1/fine_tuning/jobs over workers in this process: what a job looks like, what is refused, and what becomes of jobs that go wrong.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Run } from '../../src/train/run-types.js';
import { type Directive, trainingLines } from '../helpers/fake-training-run.js';
import { errorOf, jsonOf, rawEventsOf } from '../helpers/server-app.js';
import { trainingApp } from '../helpers/training-app.js';
import { addFile, isOver, type TestTrainingOptions, untilJob, workerHere } from '../helpers/training-jobs.js';

const JOBS = '/v1/fine_tuning/jobs';

interface JobObject {
  readonly id: string;
  readonly status: string;
  readonly error: { readonly code: string; readonly message: string; readonly param: string | null } | null;
  readonly result_files: readonly string[];
  readonly fine_tuned_model: string | null;
  readonly trained_tokens: number | null;
  readonly finished_at: number | null;
  readonly [key: string]: unknown;
}
interface EventObject {
  readonly id: string;
  readonly level: string;
  readonly message: string;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

async function openApp(t: TestContext, directives: readonly Directive[], options: TestTrainingOptions = {}) {
  const app = await trainingApp(t, options);
  const file = await addFile(app.training, trainingLines(4, ...directives));
  const create = async (changes: object = {}) => {
    const response = await app.post(JOBS, {
      model: 'tiny',
      training_file: file.id,
      hyperparameters: { n_epochs: 1, batch_size: 1 },
      ...changes,
    });
    assert.equal(response.status, 200, await response.clone().text());
    return jsonOf<JobObject>(response);
  };
  const show = async (id: string) => jsonOf<JobObject>(await app.app.request(`${JOBS}/${id}`));
  const change = async (id: string, what: string) => app.post(`${JOBS}/${id}/${what}`, '');
  const events = async (id: string, query = '?limit=100') =>
    (await jsonOf<{ data: EventObject[] }>(await app.app.request(`${JOBS}/${id}/events${query}`))).data;
  const until = (id: string, holds: Parameters<typeof untilJob>[2]) => untilJob(app.training, id, holds);
  return { ...app, file, create, show, change, events, until };
}

test('a job from its creation to its model', async (t) => {
  const { app, create, show, until, file, letGo, adapters } = await openApp(t, [{ do: 'wait', step: 3 }]);
  const created = await create({ suffix: 'mine', metadata: { team: 'x' }, seed: 7 });
  assert.match(created.id, /^ftjob-/);
  const { [EXTENSION]: extension, ...job } = created;
  const hyperparameters = { n_epochs: 1, batch_size: 1, learning_rate_multiplier: 1 };
  assert.deepEqual(job, {
    id: created.id,
    object: 'fine_tuning.job',
    created_at: 1_700_000_000,
    model: 'tiny',
    fine_tuned_model: null,
    organization_id: 'local',
    status: 'queued',
    training_file: file.id,
    validation_file: null,
    result_files: [],
    hyperparameters,
    method: { type: 'supervised', supervised: { hyperparameters } },
    seed: 7,
    trained_tokens: null,
    estimated_finish: null,
    finished_at: null,
    error: null,
    integrations: [],
    metadata: { team: 'x' },
  });
  assert.deepEqual(extension, {
    stage: 'sft',
    finetuning_type: 'lora',
    lora_rank: 16,
    lora_alpha: 32,
    lora_dropout: 0,
    lora_target: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
    use_rslora: false,
    loraplus_lr_ratio: 1,
    quantization: 'none',
    precision: 'f32',
    backend: 'onnx',
    cutoff_len: 1024,
    packing: false,
    per_device_train_batch_size: 1,
    gradient_accumulation_steps: 1,
    num_train_epochs: 1,
    max_steps: null,
    learning_rate: 3e-4,
    lr_scheduler_type: 'cosine',
    warmup_ratio: 0.03,
    weight_decay: 0,
    adam_beta1: 0.9,
    adam_beta2: 0.999,
    adam_epsilon: 1e-8,
    max_grad_norm: 1,
    gradient_checkpointing: true,
    val_size: 0,
    eval_steps: null,
    early_stopping_patience: 3,
    save_steps: null,
    save_total_limit: 2,
    sample_steps: null,
    sample_prompts: [],
    step: 0,
    total_steps: null,
    result_folder: null,
    rope_scaling: 'none',
  });
  await until(created.id, ({ step }) => step === 2);
  const running = await show(created.id);
  assert.deepEqual(
    [running.status, running.trained_tokens, running['estimated_finish']],
    ['running', 20, 1_700_000_002],
  );
  letGo(created.id);
  await until(created.id, isOver);
  const done = await show(created.id);
  assert.match(done.fine_tuned_model!, /^ft:tiny:mine:[a-z0-9]{12}$/);
  assert.deepEqual(
    [done.status, done.trained_tokens, done.finished_at, done.result_files.length],
    ['succeeded', 40, 1_700_000_000, 1],
  );
  const name = done.fine_tuned_model!;
  assert.deepEqual(
    adapters.registered.map((adapter) => adapter.name),
    [name, `${name}:ckpt-step-2`, `${name}:ckpt-step-4`],
  );
  const log = await (await app.request(`/v1/files/${done.result_files[0]}/content`)).text();
  assert.equal(log.trim().split('\n').length, 4);
  const checkpoints = await jsonOf<{ data: object[] }>(
    await app.request(`${JOBS}/${created.id}/checkpoints?limit=1`),
  );
  assert.deepEqual(
    { ...checkpoints.data[0], id: 'any' },
    {
      id: 'any',
      object: 'fine_tuning.job.checkpoint',
      created_at: 1_700_000_000,
      fine_tuned_model_checkpoint: `${name}:ckpt-step-4`,
      fine_tuning_job_id: created.id,
      step_number: 4,
      metrics: { step: 4, train_loss: 0.25, full_valid_loss: 0.5 },
      [EXTENSION]: { is_served: true },
    },
  );
});
const EXTENSION = 'x_graft';

test('events: newest first in pages, oldest first as a stream that ends with the job', async (t) => {
  const { app, create, events, until, letGo } = await openApp(t, [{ do: 'wait', step: 2 }]);
  const { id } = await create();
  const stream = await app.request(`${JOBS}/${id}/events?stream=true`);
  assert.equal(stream.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  await until(id, ({ step }) => step === 1);
  letGo(id);
  const streamed = rawEventsOf(await stream.text());
  assert.equal(streamed.pop(), '[DONE]');
  const seen = streamed.map((data): EventObject => JSON.parse(data));
  const all = await events(id);
  assert.deepEqual(seen, all.toReversed());
  assert.deepEqual(
    seen.map(({ message }) => message),
    [
      `Created fine-tuning job: ${id}`,
      'Job started',
      ...[1, 2].flatMap(stepMessages),
      'Checkpoint created at step 2',
      ...[3, 4].flatMap(stepMessages),
      'Checkpoint created at step 4',
      `Job succeeded: ${(await until(id, isOver)).fineTunedModel}`,
    ],
  );
  const { id: eventId, ...step } = seen[2]!;
  assert.match(eventId, /^ftevent-/);
  assert.deepEqual(step, {
    object: 'fine_tuning.job.event',
    created_at: 1_700_000_000,
    level: 'info',
    message: 'Step 1/4: training loss=1.0000',
    type: 'metrics',
    data: {
      step: 1,
      total_steps: 4,
      epoch: 1,
      train_loss: 1,
      learning_rate: 3e-4,
      grad_norm: 0.5,
      num_supervised_tokens: 10,
      tokens_per_second: 100,
      elapsed_seconds: 1,
      remaining_seconds: 3,
    },
  });
  const [first, second] = [await events(id, '?limit=2'), await events(id, `?limit=2&after=${all[1]!.id}`)];
  assert.deepEqual([...first, ...second], all.slice(0, 4));
  const rest = await app.request(`${JOBS}/${id}/events?stream=true&after=${all[2]!.id}`);
  assert.equal(rawEventsOf(await rest.text()).length, 3);
});

const stepMessages = (step: number) => [
  `Step ${step}/4: training loss=${(1 / step).toFixed(4)}`,
  `Step ${step}: validation loss=${(2 / step).toFixed(4)}, the best so far`,
];

test('pause and resume go on from the last checkpoint', async (t) => {
  const { create, change, show, until, events, letGo } = await openApp(t, [{ do: 'wait', step: 4 }]);
  const { id } = await create();
  await until(id, ({ step }) => step === 3);
  const paused = await jsonOf<JobObject>(await change(id, 'pause'));
  assert.equal(paused.status, 'paused');
  assert.equal((await jsonOf<JobObject>(await change(id, 'pause'))).status, 'paused', 'again is no error');
  while ((await events(id))[0]!.message !== 'The worker let go of the job') await nextTurn();
  letGo(id);
  const resumed = await jsonOf<JobObject>(await change(id, 'resume'));
  assert(['queued', 'validating_files', 'running'].includes(resumed.status), resumed.status);
  await until(id, isOver);
  const done = await show(id);
  assert.deepEqual([done.status, done.trained_tokens], ['succeeded', 40]);
  const messages = (await events(id)).map(({ message }) => message);
  assert(messages.includes('Resumed from step 3'), messages.join('\n'));
});

test('a queued job is paused, resumed and cancelled without a worker', async (t) => {
  const { create, change, show, until, letGo } = await openApp(t, [{ do: 'wait', step: 1 }]);
  const [first, second] = [await create(), await create()];
  assert.equal((await jsonOf<JobObject>(await change(second.id, 'pause'))).status, 'paused');
  assert.equal((await jsonOf<JobObject>(await change(second.id, 'resume'))).status, 'queued');
  const cancelled = await jsonOf<JobObject>(await change(second.id, 'cancel'));
  assert.deepEqual([cancelled.status, cancelled.finished_at], ['cancelled', 1_700_000_000]);
  letGo(first.id);
  await until(first.id, isOver);
  assert.equal((await show(second.id)).status, 'cancelled');
});

test('a cancelled job publishes nothing, says no more, and the next one runs', async (t) => {
  const { create, change, show, events, until, adapters, app } = await openApp(t, [{ do: 'wait', step: 3 }]);
  const { id } = await create();
  await until(id, ({ step }) => step === 2);
  const stream = app.request(`${JOBS}/${id}/events?stream=true`);
  assert.equal((await jsonOf<JobObject>(await change(id, 'cancel'))).status, 'cancelled');
  assert.equal(
    (await jsonOf<JobObject>(await change(id, 'cancel'))).status,
    'cancelled',
    'again is no error',
  );
  const streamed = rawEventsOf(await (await stream).text());
  assert.equal(streamed.at(-1), '[DONE]');
  for (const what of ['pause', 'resume']) {
    const error = await errorOf(await change(id, what));
    assert.deepEqual([error.code, error.param], ['invalid_value', 'fine_tuning_job_id'], what);
  }
  const next = await create({ [EXTENSION]: { max_steps: 2 } });
  await until(next.id, isOver);
  assert.equal((await show(next.id)).status, 'succeeded');
  assert.deepEqual([(await show(id)).status, (await show(id)).result_files.length], ['cancelled', 0]);
  assert(adapters.registered.every(({ name }) => name.startsWith(`ft:tiny::${next.id.slice(6, 18)}`)));
  assert.equal((await events(id)).filter(({ type }) => type === 'metrics').length, 4);
});

test('a job that has ended cannot be cancelled', async (t) => {
  const { create, change, until } = await openApp(t, []);
  const { id } = await create();
  await until(id, isOver);
  const response = await change(id, 'cancel');
  assert.equal(response.status, 400);
  assert.match((await errorOf(response)).message, /is succeeded$/);
});

test('a file with a bad row fails the job with code and row', async (t) => {
  const { training, create, until, events } = await openApp(t, []);
  const file = await addFile(training, `${trainingLines(2)}{"messages": [\n`);
  const { id } = await create({ training_file: file.id });
  const { status, error } = await until(id, isOver);
  assert.equal(status, 'failed');
  assert.deepEqual([error!.code, error!.param], ['invalid_file', 'training_file']);
  assert.match(error!.message, /^Expected row 3 of train\.jsonl to be JSON/);
  const last = (await events(id))[0]!;
  assert.deepEqual([last.level, last.message], ['error', error!.message]);
});

test('a result that is refused by the adapters fails the job, and says where the files are', async (t) => {
  const { create, until, adapters, dataDir } = await openApp(t, []);
  adapters.failure = new Error('no room');
  const { id } = await create();
  const { status, error } = await until(id, isOver);
  assert.equal(status, 'failed');
  assert.equal(error!.code, 'internal_error');
  assert.match(error!.message, /no room/);
  assert(error!.message.includes(dataDir));
});

test('a worker that dies gives its job back; three times without progress and the job fails', async (t) => {
  const { create, until, events } = await openApp(t, [], {
    startWorker: (onMessage) => {
      const worker = workerHere(() => new Promise(() => {}))(onMessage);
      setImmediate(() => worker.kill());
      return worker;
    },
  });
  const { id } = await create();
  const { status, error } = await until(id, isOver);
  assert.deepEqual([status, error!.code], ['failed', 'worker_crashed']);
  const messages = (await events(id)).map(({ message }) => message);
  assert.equal(messages.filter((message) => message === 'The worker was ended by SIGKILL').length, 3);
});

test('a run that stops without being told to is no endless loop', async (t) => {
  const { create, until } = await openApp(t, [], {
    startWorker: workerHere(async () => ({ kind: 'stopped', step: 3, bestStep: 3 })),
  });
  const { error } = await until((await create()).id, isOver);
  assert.match(error!.message, /^The run stopped at step 3 without being told to; 3 attempts/);
});

test('a run waits at its yield point while requests run, and goes on when they are done', async (t) => {
  let isBusy = true;
  const run: Run = async (_request, hooks) => {
    hooks.emit({ type: 'message', level: 'info', message: 'arrived' });
    // The load is told beside the run: a first pass may come before it.
    for (let pass = 0; pass < 1000; pass++) await hooks.yieldPoint();
    return { kind: 'failed', step: 0, code: 'through', message: 'it went on' };
  };
  const { create, until, events } = await openApp(t, [], { run, isBusy: () => isBusy });
  const { id } = await create();
  while ((await events(id))[0]!.message !== 'arrived') await nextTurn();
  for (let turn = 0; turn < 2000; turn++) await nextTurn();
  assert.equal((await events(id))[0]!.message, 'arrived');
  isBusy = false;
  assert.equal((await until(id, isOver)).error!.code, 'through');
});

test('a paused or cancelled run does not wait for requests', async (t) => {
  const run: Run = async (_request, hooks) => {
    while (hooks.control() === 'run') await hooks.yieldPoint();
    return { kind: 'stopped', step: 0, bestStep: 0 };
  };
  const { create, change, events } = await openApp(t, [], { run, isBusy: () => true });
  const { id } = await create();
  while ((await events(id))[0]!.message !== 'Job started') await nextTurn();
  await change(id, 'cancel');
  while ((await events(id))[0]!.message !== 'The worker let go of the job') await nextTurn();
});

test('a loss that is not finite is told as such', async (t) => {
  const { create, until, events } = await openApp(t, [{ do: 'diverge', step: 2 }]);
  const { id } = await create();
  await until(id, isOver);
  const messages = (await events(id)).map(({ message }) => message);
  assert(messages.includes('Step 2/4: training loss=not finite'), messages.join('\n'));
});

test('samples are asked of the server, and a failure to give them is a warning', async (t) => {
  const prompts = { [EXTENSION]: { sample_steps: 2, sample_prompts: ['hi'] } };
  const samples = [{ prompt: 'hi', text: 'ho' }];
  const one = await openApp(t, [{ do: 'sample', step: 2 }], { samples });
  const { id } = await one.create(prompts);
  await one.until(id, isOver);
  const event = (await one.events(id)).find(({ message }) => message === 'Samples at step 2');
  assert.deepEqual(event!.data, { step: 2, samples });

  const two = await openApp(t, [{ do: 'sample', step: 2 }], { samples: new Error('the queue is full') });
  const other = await two.create(prompts);
  assert.equal((await two.until(other.id, isOver)).status, 'succeeded');
  const warning = (await two.events(other.id)).find(({ level }) => level === 'warn');
  assert.equal(warning!.message, 'No samples at step 2: the queue is full');
});

test('full fine-tuning leaves a folder and no model', async (t) => {
  const { create, until, show, adapters } = await openApp(t, []);
  const { id } = await create({ [EXTENSION]: { finetuning_type: 'full' } });
  await until(id, isOver);
  const { fine_tuned_model: model, [EXTENSION]: extension } = await show(id);
  assert.equal(model, null);
  assert.match((extension as { result_folder: string }).result_folder, new RegExp(`${id}/adapter$`));
  assert.deepEqual(adapters.registered, []);
});

test('a chosen adapter name gets the next version', async (t) => {
  const { create, until, adapters } = await openApp(t, []);
  adapters.add('mine');
  const { id } = await create({ [EXTENSION]: { adapter_name: 'mine' } });
  assert.equal((await until(id, isOver)).fineTunedModel, 'mine');
  assert.equal((await adapters.get('mine'))!.version, 2);
});

test('metrics: jobs by status, and figures while one runs', async (t) => {
  const { app, create, until, letGo } = await openApp(t, [{ do: 'wait', step: 3 }]);
  const metrics = async () => (await app.request('/metrics')).text();
  assert.doesNotMatch(await metrics(), /^training_loss\{/m);
  const { id } = await create();
  await until(id, ({ step }) => step === 2);
  const running = await metrics();
  for (const line of [
    'training_jobs{status="running"} 1',
    'training_loss{status="running"} 0.5',
    'training_eval_loss{status="running"} 1',
    'training_learning_rate{status="running"} 0.0003',
    'training_gradient_norm{status="running"} 0.5',
    'training_tokens_per_second{status="running"} 100',
  ])
    assert(running.split('\n').includes(line), line);
  letGo(id);
  await until(id, isOver);
  const after = await metrics();
  assert(after.includes('training_jobs{status="succeeded"} 1\n'));
  assert(after.includes('training_jobs{status="running"} 0\n'));
});

test('lists of jobs by metadata', async (t) => {
  const { app, create } = await openApp(t, []);
  const ids = [await create(), await create({ metadata: { team: 'x' } })].map(({ id }) => id);
  const list = async (query: string) => {
    const { data } = await jsonOf<{ data: JobObject[] }>(await app.request(`${JOBS}${query}`));
    return data.map(({ id }) => ids.indexOf(id));
  };
  assert.deepEqual(await list(''), [1, 0]);
  assert.deepEqual(await list('?metadata[team]=x'), [1]);
  assert.deepEqual(await list('?metadata=null'), [0]);
  assert.deepEqual(await list(`?after=${ids[1]}&limit=1`), [0]);
});

test('an unknown job is a 404 everywhere', async (t) => {
  const { app, change } = await openApp(t, []);
  for (const path of ['', '/events', '/events?stream=true', '/checkpoints'])
    assert.equal((await app.request(`${JOBS}/ftjob-none${path}`)).status, 404, path);
  for (const what of ['cancel', 'pause', 'resume'])
    assert.equal((await change('ftjob-none', what)).status, 404, what);
});
