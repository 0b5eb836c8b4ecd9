// POST /v1/fine_tuning/jobs: every parameter that is not honoured is a 400 that names it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { trainingLines } from '../helpers/fake-training-run.js';
import { errorOf } from '../helpers/server-app.js';
import { trainingApp } from '../helpers/training-app.js';
import { addFile } from '../helpers/training-jobs.js';

let undo: (() => void | Promise<void>)[] = [];
let app: Awaited<ReturnType<typeof trainingApp>>;
let files: Record<'training' | 'results' | 'deleted', string>;

before(async () => {
  app = await trainingApp({ after: (task) => undo.push(task) }, {}, {});
  app.adapters.add('german');
  const { training } = app;
  const deleted = await addFile(training, trainingLines(1));
  await training.files.remove(deleted.id);
  const results = await training.files.add('log', 'fine-tune-results', new Blob(['{}']).stream());
  files = {
    training: (await addFile(training, trainingLines(1))).id,
    results: results.id,
    deleted: deleted.id,
  };
});
after(async () => {
  for (const task of undo.toReversed()) await task();
  undo = [];
});

async function refusal(changes: object) {
  const body = { model: 'tiny', training_file: files.training, ...changes };
  const response = await app.post('/v1/fine_tuning/jobs', body);
  const error = await errorOf(response);
  return { status: response.status, ...error };
}

const x = (fields: object) => ({ x_graft: fields });
const dpo = (hyperparameters: object) => ({ method: { type: 'dpo', dpo: { hyperparameters } } });

const REFUSED: readonly (readonly [string, object, string, string])[] = [
  ['an unknown field', { temperature: 1 }, 'unsupported_parameter', 'temperature'],
  ['integrations', { integrations: [{ type: 'wandb' }] }, 'unsupported_parameter', 'integrations'],
  ['reinforcement', { method: { type: 'reinforcement' } }, 'unsupported_parameter', 'method.type'],
  ['an empty suffix', { suffix: '' }, 'invalid_value', 'suffix'],
  ['a long suffix', { suffix: 'x'.repeat(65) }, 'invalid_value', 'suffix'],
  ['a suffix with a colon', { suffix: 'a:b' }, 'invalid_value', 'suffix'],
  ['a seed that is no integer', { seed: 1.5 }, 'invalid_value', 'seed'],
  ['metadata that is no text', { metadata: { a: 1 } }, 'invalid_value', 'metadata.a'],
  ['no epochs', { hyperparameters: { n_epochs: 0 } }, 'invalid_value', 'hyperparameters.n_epochs'],
  ['a large batch', { hyperparameters: { batch_size: 257 } }, 'invalid_value', 'hyperparameters.batch_size'],
  ['beta without DPO', { hyperparameters: { beta: 0.1 } }, 'unsupported_parameter', 'hyperparameters.beta'],
  ['a large beta', dpo({ beta: 3 }), 'invalid_value', 'method.dpo.hyperparameters.beta'],
  ['both ways', { ...dpo({}), hyperparameters: {} }, 'invalid_value', 'hyperparameters'],
  ['the other method', { method: { type: 'dpo', supervised: {} } }, 'invalid_value', 'method.supervised'],
  ['an unknown file', { training_file: 'file-none' }, 'invalid_value', 'training_file'],
  ['an unknown validation file', { validation_file: 'file-none' }, 'invalid_value', 'validation_file'],
  ['a bad rank', x({ lora_rank: 0 }), 'invalid_value', 'x_graft.lora_rank'],
  ['an unknown target', x({ lora_target: ['q'] }), 'invalid_value', 'x_graft.lora_target.0'],
  ["another method's field", x({ num_virtual_tokens: 4 }), 'invalid_value', 'x_graft.num_virtual_tokens'],
  ['a stage against the method', x({ stage: 'dpo' }), 'invalid_value', 'x_graft.stage'],
  [
    'full with 4 bits',
    x({ finetuning_type: 'full', quantization: 'nf4' }),
    'invalid_value',
    'x_graft.quantization',
  ],
  ['a long cutoff', x({ cutoff_len: 10_000 }), 'invalid_value', 'x_graft.cutoff_len'],
  ['prompts without steps', x({ sample_prompts: ['a'] }), 'invalid_value', 'x_graft.sample_steps'],
  ['packed pairs', { ...dpo({}), ...x({ packing: true }) }, 'invalid_value', 'x_graft.packing'],
  [
    'full with DPO',
    { ...dpo({}), ...x({ finetuning_type: 'full' }) },
    'invalid_value',
    'x_graft.finetuning_type',
  ],
  ['a loss of pairs without DPO', x({ pref_loss: 'ipo' }), 'invalid_value', 'x_graft.pref_loss'],
  ['a name of odd letters', x({ adapter_name: 'a b' }), 'invalid_value', 'x_graft.adapter_name'],
  ["the base's name", x({ adapter_name: 'tiny' }), 'invalid_value', 'x_graft.adapter_name'],
  ['a name without room', x({ adapter_name: 'x'.repeat(120) }), 'invalid_value', 'x_graft.adapter_name'],
  [
    'accumulation of an open batch',
    x({ gradient_accumulation_steps: 2 }),
    'invalid_value',
    'x_graft.gradient_accumulation_steps',
  ],
  [
    'a learning rate twice',
    { hyperparameters: { learning_rate_multiplier: 2 }, ...x({ learning_rate: 1e-3 }) },
    'invalid_value',
    'x_graft.learning_rate',
  ],
  [
    'accumulation that does not divide',
    { hyperparameters: { batch_size: 4 }, ...x({ gradient_accumulation_steps: 3 }) },
    'invalid_value',
    'x_graft.gradient_accumulation_steps',
  ],
];

for (const [name, changes, code, param] of REFUSED)
  test(name, async () => {
    const error = await refusal(changes);
    assert.deepEqual([error.status, error.code, error.param], [400, code, param], error.message);
  });

test('an unknown key of the extension is refused with the one that was meant', async () => {
  const { status, code, param, message } = await refusal(x({ lora_rnak: 8 }));
  assert.deepEqual([status, code, param], [400, 'unsupported_parameter', 'x_graft.lora_rnak']);
  assert.equal(
    message,
    '`x_graft.lora_rnak` is not supported; remove it from the request; did you mean lora_rank?',
  );
});

test('files that were deleted or are for something else are refused, saying so', async () => {
  const deleted = await refusal({ training_file: files.deleted });
  assert.match(deleted.message, /`training_file`.*which does not exist/);
  const results = await refusal({ validation_file: files.results });
  assert.match(results.message, /`validation_file`.*whose purpose is fine-tune-results/);
});

test('only the base can be trained', async () => {
  const unknown = await refusal({ model: 'gpt-4o-mini' });
  assert.deepEqual([unknown.status, unknown.code], [404, 'model_not_found']);
  const adapter = await refusal({ model: 'german' });
  assert.deepEqual([adapter.status, adapter.code, adapter.param], [400, 'invalid_value', 'model']);
});

test('nothing was queued', async () => {
  const { items } = await app.training.list({ after: null, limit: 9, metadata: null });
  assert.deepEqual(items, []);
});
