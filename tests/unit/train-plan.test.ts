// What a run needs: parameters, bits, memory, steps, and what to change where it does not fit.
import assert from 'node:assert/strict';
import { timeLine } from '../../src/cli/train/plan-text.js';
import { measureTrial } from '../../src/train/plan/trial.js';
import { smallArchitecture } from '../helpers/architecture.js';
import { ByteTokenizer } from '../helpers/byte-tokenizer.js';
import { tinyModel } from '../helpers/tiny-model.js';
import { test } from 'node:test';
import { DEFAULT_OPTIONS, type TrainingOptions } from '../../src/train/options.js';
import { memoryLimit } from '../../src/train/plan/machine-memory.js';
import { planMemory, totalBytes } from '../../src/train/plan/memory.js';
import { countBase, countTrained } from '../../src/train/plan/parameter-counts.js';
import { sizeOfRun } from '../../src/train/plan/run-size.js';
import { COMMON_BASES, sizeTable } from '../../src/train/plan/size-table.js';
import { STORED_BITS } from '../../src/train/plan/stored-bits.js';
import { assertFits, planTraining } from '../../src/train/plan/training-plan.js';
import { GatewayError } from '../../src/errors.js';
import type { TokenizedExample } from '../../src/data/types.js';

const SMOL = smallArchitecture({
  hiddenSize: 576,
  numLayers: 30,
  numHeads: 9,
  numKvHeads: 3,
  headDim: 64,
  intermediateSize: 1536,
  vocabSize: 49_152,
  contextLength: 8192,
  ropeTheta: 1e5,
});

function example(length: number): TokenizedExample {
  return { tokens: new Int32Array(length).fill(1), labels: new Int32Array(length).fill(1) };
}

function options(changes: Partial<TrainingOptions> = {}): TrainingOptions {
  return { ...DEFAULT_OPTIONS, cutoffLength: 512, batchSize: 4, ...changes };
}

function needed(changes: Partial<TrainingOptions>, rowLength = 512): number {
  return totalBytes(planMemory(SMOL, options(changes), rowLength));
}

test('bases have as many parameters as their files', () => {
  assert.equal(countBase(SMOL).total, 134_515_008);
  const totals = Object.fromEntries(
    Object.entries(COMMON_BASES).map(([name, arch]) => [name, countBase(arch).total]),
  );
  assert.deepEqual(totals, {
    'Qwen2.5-7B': 7_615_616_512,
    'Qwen2.5-14B': 14_770_033_664,
    'Qwen2.5-32B': 32_763_876_352,
    'Llama-3.1-70B': 70_553_706_496,
  });
});

test('methods train as many parameters as PEFT does', () => {
  const rank16 = DEFAULT_OPTIONS.method;
  // 16 * (in + out) of the seven projections of 30 layers.
  assert.equal(countTrained(SMOL, rank16), 30 * 16 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536)));
  const virtual = { numVirtualTokens: 8 };
  assert.equal(countTrained(SMOL, { name: 'prefix_tuning', ...virtual, projection: null }), 8 * 30 * 2 * 192);
  assert.equal(
    countTrained(SMOL, { name: 'prefix_tuning', ...virtual, projection: { hidden: 100 } }),
    8 * 576 + 576 * 100 + 100 + 100 * 30 * 2 * 192 + 30 * 2 * 192,
  );
  assert.equal(countTrained(SMOL, { name: 'prompt_tuning', ...virtual, initText: null }), 8 * 576);
  assert.equal(
    countTrained(SMOL, { name: 'p_tuning', ...virtual, encoder: 'mlp', hidden: 10 }),
    8 * 576 + (576 * 10 + 10) + (10 * 10 + 10) + (10 * 576 + 576),
  );
  assert.equal(countTrained(SMOL, { name: 'bottleneck', size: 24 }), 30 * 2 * (2 * 576 * 24 + 24 + 576));
  assert.equal(countTrained(SMOL, { name: 'bitfit', targets: ['q_proj', 'v_proj'] }), 30 * (576 + 192));
  assert.equal(countTrained(SMOL, { name: 'full' }), 134_515_008);
});

test('NF4 with double quantization is 4.127 bits a parameter', () => {
  assert.equal(STORED_BITS.nf4, 4 + 8 / 64 + 32 / (64 * 256));
  assert.equal(STORED_BITS.nf4.toFixed(3), '4.127');
});

test('memory falls with each thing that should save some', () => {
  const base = needed({ gradientCheckpointing: false, frozenWeights: 'f32' });
  assert(needed({ frozenWeights: 'f32' }) < base, 'checkpointing');
  assert(needed({ frozenWeights: 'nf4' }) < needed({ frozenWeights: 'f32' }), 'nf4');
  assert(needed({ frozenWeights: 'int4' }) < needed({ frozenWeights: 'f32' }), 'int4');
  assert(needed({ batchSize: 1 }) < needed({ batchSize: 16 }), 'fewer rows');
  assert(needed({}, 256) < needed({}, 2048), 'shorter rows');
  assert(needed({}) < needed({ method: { name: 'full' } }), 'an adapter');
  assert(needed({ stage: 'sft' }) < needed({ stage: 'dpo' }), 'no pairs');
});

/** Peak resident size of whole runs of `train` on SmolLM2-135M, in MB (docs/training.md). */
const MEASURED: readonly (readonly [string, Partial<TrainingOptions>, number, number])[] = [
  ['1 x 128', { batchSize: 1 }, 128, 956],
  ['4 x 256', { batchSize: 4 }, 256, 1052],
  ['8 x 512', { batchSize: 8 }, 512, 1073],
  ['1 x 2048', { batchSize: 1 }, 2048, 1892],
  ['4 x 256, nf4', { batchSize: 4, frozenWeights: 'nf4' }, 256, 662],
  ['4 x 256, int4', { batchSize: 4, frozenWeights: 'int4' }, 256, 742],
  ['1 x 512, no checkpointing', { batchSize: 1, gradientCheckpointing: false }, 512, 1889],
  ['1 x 128, full', { batchSize: 1, method: { name: 'full' } }, 128, 4989],
  [
    '4 x 256, prefix',
    { batchSize: 4, method: { name: 'prefix_tuning', numVirtualTokens: 16, projection: null } },
    256,
    965,
  ],
  ['2 x 512, DPO', { batchSize: 2, stage: 'dpo' }, 512, 1132],
];

test('memory is within a tenth of what runs were measured to take', () => {
  const lora = { ...DEFAULT_OPTIONS.method, rank: 8 } as TrainingOptions['method'];
  for (const [name, changes, rowLength, megabytes] of MEASURED) {
    const ratio = needed({ method: lora, ...changes }, rowLength) / (megabytes * 1e6);
    assert(ratio > 0.9 && ratio < 1.1, `${name}: ${ratio.toFixed(2)} of the measured size`);
  }
});

test('steps and tokens come from the batches', () => {
  const lengths = [100, 60, 32, 20, 20, 10, 9];
  const size = sizeOfRun(lengths.map(example), options({ batchSize: 2, accumulation: 2, epochs: 2 }));
  // Pairs by length: 100+60, 32+20, 20+10, 9, padded to multiples of 32.
  assert.deepEqual(size, {
    numExamples: 7,
    stepsPerEpoch: 2,
    totalSteps: 4,
    numTokens: 2 * 251,
    numPaddedTokens: 2 * (2 * 128 + 2 * 32 + 2 * 32 + 32),
    mostRows: 2,
    longestRow: 128,
  });
  const bounded = sizeOfRun(lengths.map(example), options({ batchSize: 2, accumulation: 2, maxSteps: 1 }));
  assert.deepEqual([bounded.totalSteps, bounded.numTokens], [1, Math.round(251 / 2)]);
});

test('packed rows are fewer and full', () => {
  const packed = sizeOfRun(
    [300, 200, 500, 12, 400, 112].map(example),
    options({ batchSize: 1, packing: true, epochs: 1 }),
  );
  assert.deepEqual([packed.stepsPerEpoch, packed.numPaddedTokens], [3, 3 * 512]);
});

test('a pair fills two rows', () => {
  const pairs = [{ chosen: example(64), rejected: example(32) }];
  const size = sizeOfRun(pairs, options({ stage: 'dpo', batchSize: 4, epochs: 1 }));
  assert.deepEqual([size.mostRows, size.numTokens, size.numPaddedTokens], [2, 96, 128]);
});

test('the rate is that of a step of the run itself: its micro-batches and its update', async (t) => {
  const tiny = await tinyModel('llama-tied');
  t.after(() => tiny.dispose());
  const { artifact } = tiny;
  let nowMs = 0;
  const rate = await measureTrial(
    {
      artifact,
      tokenizer: new ByteTokenizer(),
      options: options({ batchSize: 2, accumulation: 3, cutoffLength: 256 }),
      parts: [example(60), example(60), example(60)],
      threads: 1,
    },
    // Each look at the clock is a second after the one before.
    () => (nowMs += 1000),
  );
  // Three micro-batches of 2 x 64 tokens and an update, a second each.
  assert.equal(rate, (3 * 2 * 64) / 4);
  const { size } = planTraining({
    architecture: artifact.manifest.architecture,
    options: options({ batchSize: 2, accumulation: 1, epochs: 2 }),
    parts: [example(60), example(60)],
    memoryBytes: 1e12,
  });
  assert.equal(timeLine({ size }, 64), 'time: 0:00:04 at 64 tokens a second');
});

test('what cannot fit is refused with what would', () => {
  const wide = options({ batchSize: 64, gradientCheckpointing: false, accumulation: 1, cutoffLength: 1024 });
  const request = {
    architecture: SMOL,
    options: wide,
    parts: Array.from({ length: 64 }, () => example(1024)),
  };
  const plan = planTraining({ ...request, memoryBytes: 2e9 });
  assert(plan.remedies.length > 0);
  for (const remedy of plan.remedies) {
    assert(remedy.neededBytes <= 2e9, remedy.words);
    assert.equal(
      remedy.neededBytes,
      totalBytes(planMemory(SMOL, remedy.options, remedy.options.cutoffLength)),
      remedy.words,
    );
    assert.equal(remedy.options.batchSize * remedy.options.accumulation, 64, 'the same tokens a step');
  }
  assert(plan.remedies.some(({ options: { gradientCheckpointing } }) => gradientCheckpointing));
  assert.throws(
    () => assertFits(plan),
    (error) =>
      error instanceof GatewayError &&
      error.code === 'insufficient_memory' &&
      /needs about [\d.]+ GB and 2\.00 GB are there; .*would fit: .*checkpointing on \([\d.]+ GB\)/.test(
        error.message,
      ),
  );
  const hopeless = planTraining({ ...request, memoryBytes: 1e8 });
  assert.deepEqual(hopeless.remedies, []);
  assert.throws(() => assertFits(hopeless), /No setting makes this base fit/);
  assertFits(planTraining({ ...request, memoryBytes: 1e13 }));
});

test('where no single change is enough, the fewest together are proposed', () => {
  const plan = planTraining({
    architecture: COMMON_BASES['Qwen2.5-7B']!,
    options: options({ batchSize: 8, method: { name: 'full' }, gradientCheckpointing: false }),
    parts: [example(512)],
    memoryBytes: 24e9,
  });
  assert.equal(plan.remedies.length, 1);
  const [remedy] = plan.remedies;
  assert(remedy!.neededBytes <= 24e9);
  assert.equal(remedy!.options.method.name, 'lora');
  assert.match(
    remedy!.words,
    /checkpointing on and .* and LoRA instead of a full run and the base in 4 bits/,
  );
});

test('the table has three methods for each base, cheaper from row to row', () => {
  const rows = sizeTable();
  assert.equal(rows.length, 12);
  for (let at = 0; at < 12; at += 3) {
    const [full, lora, qlora] = rows.slice(at, at + 3);
    assert(full!.neededBytes > lora!.neededBytes && lora!.neededBytes > qlora!.neededBytes, full!.base);
    assert.equal(qlora!.bitsPerParameter.toFixed(3), '4.127');
  }
});

test('the memory is the least of the machine and the limits above this process', () => {
  const files = (texts: Readonly<Record<string, string>>) => (path: string) => texts[path] ?? null;
  assert.equal(memoryLimit(8e9, files({})), 8e9);
  assert.equal(
    memoryLimit(
      8e9,
      files({
        '/proc/self/cgroup': '0::/a/b\n',
        '/sys/fs/cgroup/a/b/memory.max': 'max\n',
        '/sys/fs/cgroup/a/memory.max': '3000000000\n',
      }),
    ),
    3e9,
  );
  assert.equal(
    memoryLimit(
      8e9,
      files({
        '/proc/self/cgroup': '9:name=systemd:/\n4:memory:/box\n',
        '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
        '/sys/fs/cgroup/memory/box/memory.limit_in_bytes': '2000000000\n',
      }),
    ),
    2e9,
  );
  // In a container, its own group is mounted as the root.
  assert.equal(
    memoryLimit(
      8e9,
      files({ '/proc/self/cgroup': '0::/docker/x\n', '/sys/fs/cgroup/memory.max': '1000000000' }),
    ),
    1e9,
  );
});
