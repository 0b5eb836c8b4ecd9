// A training file's text to a configuration: defaults, overrides, methods, and every kind of refusal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completeOptions } from '../../src/cli/yaml/complete-options.js';
import { readTrainingConfig } from '../../src/cli/yaml/training-config.js';
import { GatewayError } from '../../src/errors.js';

const MINIMAL = 'model_name_or_path: owner/base\ndataset: identity\noutput_dir: saves/first\n';
const WINDOW = { contextLength: 2048, ropeScaling: null };

function read(more: string, overrides: readonly string[] = []) {
  return readTrainingConfig(`${MINIMAL}${more}`, 'train.yaml', overrides, '/work-folder');
}

function problems(more: string, overrides: readonly string[] = []): string {
  try {
    read(more, overrides);
  } catch (error) {
    assert(error instanceof GatewayError && error.code === 'invalid_config', String(error));
    return error.message;
  }
  assert.fail('nothing was refused');
}

function complete(more: string, facts: { numExamples?: number; totalSteps?: number } = {}) {
  return completeOptions(read(more), { architecture: WINDOW, numExamples: 10, totalSteps: 100, ...facts });
}

test("what a file leaves out has LLaMA-Factory's defaults", () => {
  const config = read('');
  assert.equal(config.model, 'owner/base');
  assert.equal(config.outputDir, '/work-folder/saves/first');
  assert.deepEqual(config.data, {
    datasets: [{ kind: 'named', name: 'identity' }],
    evalDatasets: [],
    folder: '/work-folder/data',
    maxSamples: null,
    maskHistory: false,
  });
  assert.deepEqual(config.notes, []);
  assert.deepEqual(complete(''), {
    stage: 'sft',
    method: {
      name: 'lora',
      rank: 8,
      alpha: 16,
      rslora: false,
      dropout: 0,
      targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
      plusRatio: 1,
    },
    frozenWeights: 'f32',
    precision: 'f32',
    backend: 'onnx',
    cutoffLength: 2048,
    packing: false,
    batchSize: 8,
    accumulation: 1,
    epochs: 3,
    maxSteps: null,
    learningRate: 5e-5,
    schedule: 'linear',
    weightDecay: 0,
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    maxGradNorm: 1,
    seed: 42,
    gradientCheckpointing: true,
    evalSteps: null,
    earlyStoppingPatience: null,
    saveSteps: 500,
    keepCheckpoints: Number.MAX_SAFE_INTEGER,
    sampleSteps: null,
    samplePrompts: [],
    dpo: { beta: 0.1, loss: 'sigmoid', labelSmoothing: 0 },
    ropeScaling: null,
    warmupRatio: 0,
    validationShare: 0,
  });
});

test('words of the command line win over the file, the later over the earlier', () => {
  const config = read('learning_rate: 1.0e-4\nlora_rank: 4\n', [
    'learning_rate=2e-4',
    'lora_rank=32',
    'lora_rank=64',
    'dataset=a, b',
    'lora_target=[q_proj, v_proj]',
    'val_size=',
  ]);
  assert.equal(config.options.learningRate, 2e-4);
  assert.deepEqual(config.data.datasets, [
    { kind: 'named', name: 'a' },
    { kind: 'named', name: 'b' },
  ]);
  const { method } = config.options;
  assert(method.name === 'lora');
  assert.deepEqual([method.rank, method.alpha, method.targets], [64, 128, ['q_proj', 'v_proj']]);
  assert.equal(
    problems('', ['rank', '=3', 'seed=x']),
    'Expected a word of the form key=value, got `rank` on the command line\n' +
      'Expected a word of the form key=value, got `=3` on the command line',
  );
  assert.match(problems('', ['seed=x']), /`seed` to be a whole number .* got `x` \(the command line\)/);
});

test("YAML 1.1's spellings of numbers, switches and no are read", () => {
  const config = read(
    "learning_rate: '2e-5'\npacking: yes\neval_strategy: no\nnum_train_epochs: 2\nreport_to: [none]\n",
  );
  assert.equal(config.options.learningRate, 2e-5);
  assert.equal(config.options.packing, true);
  assert.equal(config.options.evalSteps, null);
});

test('every method has its keys', () => {
  const method = (more: string) => read(more).options.method;
  assert.deepEqual(method('finetuning_type: full\n'), { name: 'full' });
  assert.deepEqual(method('finetuning_type: bitfit\nlora_target: q_proj\n'), {
    name: 'bitfit',
    targets: ['q_proj'],
  });
  assert.deepEqual(method('finetuning_type: bottleneck\nbottleneck_size: 24\n'), {
    name: 'bottleneck',
    size: 24,
  });
  assert.deepEqual(method('finetuning_type: prefix_tuning\nnum_virtual_tokens: 5\n'), {
    name: 'prefix_tuning',
    numVirtualTokens: 5,
    projection: null,
  });
  assert.deepEqual(
    method('finetuning_type: prefix_tuning\nprefix_projection: true\nencoder_hidden_size: 99\n'),
    {
      name: 'prefix_tuning',
      numVirtualTokens: 16,
      projection: { hidden: 99 },
    },
  );
  assert.deepEqual(method('finetuning_type: prompt_tuning\nprompt_tuning_init_text: Be brief, please.\n'), {
    name: 'prompt_tuning',
    numVirtualTokens: 16,
    initText: 'Be brief, please.',
  });
  assert.deepEqual(method('finetuning_type: p_tuning\nencoder_reparameterization_type: LSTM\n'), {
    name: 'p_tuning',
    numVirtualTokens: 16,
    encoder: 'lstm',
    hidden: 512,
  });
  assert.deepEqual(method('loraplus_lr_ratio: 16\nuse_rslora: true\nlora_dropout: 0.05\nlora_alpha: 3\n'), {
    name: 'lora',
    rank: 8,
    alpha: 3,
    rslora: true,
    dropout: 0.05,
    targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
    plusRatio: 16,
  });
});

test('the frozen base is in 32 bits, in NF4, or in the served codes', () => {
  assert.equal(read('quantization_bit: 4\n').options.frozenWeights, 'nf4');
  assert.equal(read('quantization_bit: 4\nquantization_type: int4\n').options.frozenWeights, 'int4');
  assert.equal(read('quantization_bit: 4\ndouble_quantization: true\n').options.frozenWeights, 'nf4');
  assert.match(problems('quantization_bit: 8\n'), /`quantization_bit: 8`.*nearest is `quantization_bit: 4`/);
  assert.match(problems('quantization_bit: 4\ndouble_quantization: false\n'), /`double_quantization: false`/);
  assert.deepEqual(read('quantization_type: nf4\n').notes, [
    'quantization_type: read with `quantization_bit: 4` only',
  ]);
});

test('stages, schedules and intervals', () => {
  assert.equal(read('stage: pt\n').options.packing, true);
  assert.equal(read('stage: pt\npacking: false\n').options.packing, false);
  assert.equal(read('neat_packing: true\n').options.packing, true);
  const dpo = 'stage: dpo\npref_beta: 0.3\npref_loss: ipo\n';
  assert.deepEqual(read(dpo).options.dpo, { beta: 0.3, loss: 'ipo', labelSmoothing: 0 });
  const constant = read('lr_scheduler_type: constant\nwarmup_ratio: 0.1\n');
  assert.deepEqual([constant.options.schedule, constant.warmup], ['constant', { share: 0 }]);
  assert.match(constant.notes[0]!, /constant_with_warmup/);
  const warm = read('lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.1\n');
  assert.deepEqual([warm.options.schedule, warm.warmup], ['constant', { share: 0.1 }]);
  const evaluated = read(
    'val_size: 0.1\neval_strategy: steps\nlogging_steps: 7\nsave_strategy: epoch\n',
  ).options;
  assert.deepEqual([evaluated.evalSteps, evaluated.saveSteps], [7, null]);
  assert.equal(read('disable_gradient_checkpointing: true\n').options.gradientCheckpointing, false);
  assert.equal(read('max_steps: 12\nsave_total_limit: 1\n').options.maxSteps, 12);
  assert.equal(read('resume_from_checkpoint: true\n').resumeFrom, 'newest');
  assert.equal(read('resume_from_checkpoint: false\n').resumeFrom, null);
  assert.deepEqual(read('resume_from_checkpoint: a/b\n').resumeFrom, { folder: '/work-folder/a/b' });
});

test('counts of warm-up steps and of held-out examples become shares', () => {
  const { warmupRatio } = complete('warmup_steps: 10\n', { totalSteps: 37 });
  assert.equal(Math.ceil(warmupRatio * 37), 10);
  assert.equal(complete('warmup_steps: 0.2\nwarmup_ratio: 0.5\n').warmupRatio, 0.2);
  assert.equal(complete('val_size: 3\n', { numExamples: 12 }).validationShare, 0.25);
  assert.throws(() => complete('val_size: 12\n', { numExamples: 12 }), /`val_size`.*below .*12/);
});

test('rope scaling reaches to the next whole window', () => {
  assert.deepEqual(complete('cutoff_len: 5000\nrope_scaling: linear\n').ropeScaling, {
    type: 'linear',
    factor: 3,
  });
  assert.deepEqual(complete('cutoff_len: 4096\nrope_scaling: yarn\n').ropeScaling, {
    type: 'yarn',
    factor: 2,
    originalContextLength: 2048,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 0.1 * Math.log(2) + 1,
  });
  assert.equal(complete('cutoff_len: 2048\nrope_scaling: yarn\n').ropeScaling, null);
  assert.throws(() => complete('cutoff_len: 2049\n'), /`cutoff_len` to be at most 2048.*rope_scaling/);
});

test('products are in bfloat16 where the file says so', () => {
  assert.equal(read('bf16: true\n').options.precision, 'bf16');
  assert.equal(read('bf16: false\n').options.precision, 'f32');
});

test('keys without effect are noted once, with what happens instead', () => {
  const { notes } = read(
    'bf16: true\ntemplate: qwen3_nothink\npure_bf16: true\nfp16: false\nddp_timeout: 180\n',
  );
  assert.deepEqual(notes, [
    "template: the base's own chat template is used, whatever its name",
    'pure_bf16: sums, results and what is trained are 32-bit floats',
    'ddp_timeout: a run is one process on one machine',
  ]);
  assert.deepEqual(read('finetuning_type: prefix_tuning\nlora_rank: 4\npref_beta: 1\n').notes, [
    'lora_rank: not read with `finetuning_type: prefix_tuning`',
    'pref_beta: read with `stage: dpo` only',
  ]);
});

test('what is not computed is refused with its place and what comes nearest, all at once', () => {
  assert.equal(
    problems(
      'stage: rm\nfinetuning_type: oft\ndeepspeed: z3.json\nuse_galore: false\nlora_rnak: 3\nseed: -1\n',
    ),
    'Unsupported `stage: rm`: reward models are not trained; `stage: dpo` takes the same pairs (line 4 of train.yaml)\n' +
      'Unsupported `finetuning_type: oft`: orthogonal fine-tuning is not computed; the nearest is `finetuning_type: lora` (line 5 of train.yaml)\n' +
      'Unsupported `deepspeed`: a run is one process on one machine; the nearest is `quantization_bit: 4` (line 6 of train.yaml)\n' +
      'Unknown key `lora_rnak`; did you mean lora_rank? (line 8 of train.yaml)\n' +
      'Expected `seed` to be a whole number of at least 0 and at most 4294967295, got `-1` (line 9 of train.yaml)',
  );
  assert.match(problems('report_to: wandb\n'), /nearest is `report_to: tensorboard`/);
  assert.match(problems('lora_target: q_porj\n'), /got `q_porj`; did you mean q_proj\?/);
  assert.match(problems('dataset_dir: REMOTE:a/b\n'), /`dataset_dir` to be a folder on this machine/);
  assert.match(problems('optim: sgd\n'), /nearest is `optim: adamw_torch`/);
});

test('keys that contradict each other are refused', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['val_size: 0.1\neval_dataset: b\n', /one of `val_size` and `eval_dataset`/],
    ['eval_strategy: steps\n', /`val_size` or `eval_dataset` with `eval_strategy: steps`/],
    ['early_stopping_steps: 2\n', /with `early_stopping_steps`/],
    ['finetuning_type: full\nquantization_bit: 4\n', /`quantization_bit` to be left out/],
    [
      'stage: dpo\npref_loss: hinge\ndpo_label_smoothing: 0.1\n',
      /`dpo_label_smoothing` with `pref_loss: sigmoid`/,
    ],
    ['overwrite_output_dir: true\nresume_from_checkpoint: true\n', /one of `overwrite_output_dir: true`/],
  ];
  for (const [text, message] of cases) assert.match(problems(text), message);
});

test('a file that is no list of keys is refused', () => {
  const refused = (text: string) => () => readTrainingConfig(text, 'train.yaml', [], '/');
  assert.throws(refused('- a\n- b\n'), /train\.yaml to hold lines of the form key: value/);
  assert.throws(refused('stage: sft\nstage: dpo\n'), /line 2 of train\.yaml: Map keys must be unique/);
  assert.throws(refused('a: [1\n'), /line \d of train\.yaml/);
  assert.throws(refused(''), /`model_name_or_path` to be given.*\n.*`output_dir`.*\n.*`dataset`/);
  assert.throws(refused(`${MINIMAL}model_name_or_path:\n`), /Map keys must be unique/);
  assert.throws(
    refused('model_name_or_path:\ndataset: d\noutput_dir: o\n'),
    /`model_name_or_path` to be given/,
  );
});
