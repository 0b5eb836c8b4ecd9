// Real datasets from file to batches: none of it is in the repository, and each test skips where its file is missing.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createBatches } from '../../src/data/batches.js';
import { readDatasetInfo } from '../../src/data/dataset-info.js';
import { type Dataset, readDataset } from '../../src/data/dataset-reader.js';
import { sampleDataset } from '../../src/data/dataset-split.js';
import { inspect } from '../../src/data/inspection.js';
import { sidesOf, type Stage } from '../../src/data/tokenize-example.js';
import { partsOf, tokenizeDataset } from '../../src/data/tokenized-dataset.js';
import { IGNORED } from '../../src/data/types.js';
import { fixtureTokenizer, sharedData } from '../helpers/tokenizer-fixture.js';

const tokenizer = fixtureTokenizer();
const skipWithout = (...path: string[]) => {
  const file = join(sharedData, ...path);
  return existsSync(file) ? false : `${file} is not there`;
};
const readText = (...path: string[]): string => readFileSync(join(sharedData, ...path), 'utf8');
const jsonRows = (...path: string[]): Record<string, unknown>[] =>
  readText(...path)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** Forty rows through tokenizing and batches: every learned text is an answer's, every token is in a batch once. */
function check(dataset: Dataset, stage: Stage): void {
  const sample = sampleDataset(dataset, 40, 1);
  const options = { cutoffLength: 8000, stage, trainOnPrompt: false, maskHistory: false };
  const tokenized = tokenizeDataset(sample, tokenizer, options);
  assert.equal(tokenized.rows.length, sample.rows.length);
  for (const [index, { parts }] of tokenized.rows.entries()) {
    const { example } = sample.rows[index]!;
    assert(example.kind !== 'text');
    const answers =
      example.kind === 'chat'
        ? [example.messages.filter(({ role }) => role === 'assistant')]
        : [example.chosen, example.rejected];
    const learned = parts
      .flatMap(sidesOf)
      .map(({ labels }) => tokenizer.decode([...labels].filter((label) => label !== IGNORED)));
    assert.deepEqual(
      learned,
      answers.map((turns) => turns.map(({ content }) => `${content}<|im_end|>`).join('')),
    );
  }
  const report = inspect(tokenized, tokenizer);
  assert.deepEqual(report.endLearned, { count: report.numSegments, share: 1 });
  for (const packing of [false, true]) {
    const batches = createBatches(partsOf(tokenized), {
      batchSize: 4,
      packing,
      cutoffLength: 8000,
      seed: 1,
      padTo: 16,
    });
    let numTokens = 0;
    let numLearned = 0;
    for (let index = 0; index < batches.numMicroBatches; index++) {
      const { segments, labels } = batches.microBatch(0, index);
      numTokens += segments.filter((segment) => segment !== 0).length;
      numLearned += labels.filter((label) => label !== IGNORED).length;
    }
    assert.deepEqual([numTokens, numLearned], [report.tokens.total, report.supervised.count]);
  }
}

test('gsm8k as chats', { skip: skipWithout('gsm8k', 'train.jsonl') }, () => {
  const rows = jsonRows('gsm8k', 'train.jsonl').map(({ question, answer }) => ({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  }));
  const dataset = readDataset(rows.map((row) => JSON.stringify(row)).join('\n'), 'gsm8k.jsonl');
  assert.equal(dataset.rows.length, 7473);
  check(dataset, 'sft');
});

const DEMOS = [
  ['identity', 91, 'sft'],
  ['alpaca_en_demo', 999, 'sft'],
  ['alpaca_zh_demo', 1000, 'sft'],
  ['dpo_en_demo', 299, 'dpo'],
] as const;

for (const [name, count, stage] of DEMOS)
  test(
    `${name} by LLaMA-Factory's own dataset_info.json, and by its keys`,
    {
      skip: skipWithout('llamafactory', 'dataset_info.json'),
    },
    () => {
      const [info] = readDatasetInfo(readText('llamafactory', 'dataset_info.json'), [name]);
      const text = readText('llamafactory', info!.fileName);
      const dataset = readDataset(text, info!.fileName, info!.mapping);
      assert.deepEqual([dataset.rows.length, dataset.dropped, dataset.ignoredFields], [count, [], []]);
      assert.deepEqual(readDataset(text, info!.fileName), dataset);
      check(dataset, stage);
    },
  );

test(
  'tool calls are refused by row, KTO as a whole',
  {
    skip: skipWithout('llamafactory', 'glaive_toolcall_en_demo.json'),
  },
  () => {
    const read = (name: string) => readDataset(readText('llamafactory', name), name);
    assert.throws(
      () => read('glaive_toolcall_en_demo.json'),
      /191 of 300 rows .*\nrow 1, `tools`: [^]*\nand 171 more$/,
    );
    assert.throws(() => read('kto_en_demo.json'), /KTO/);
  },
);

test('ShareGPT conversations', { skip: skipWithout('sharegpt', 'dummy_conversation.json') }, () => {
  const dataset = readDataset(readText('sharegpt', 'dummy_conversation.json'), 'dummy.json');
  assert.deepEqual([dataset.rows.length, dataset.dropped, dataset.ignoredFields], [500, [], ['id']]);
  check(dataset, 'sft');
});

test(
  "Self-Instruct's seed tasks in Alpaca's form",
  { skip: skipWithout('self-instruct', 'seed_tasks.jsonl') },
  () => {
    const tasks = jsonRows('self-instruct', 'seed_tasks.jsonl') as unknown as {
      instruction: string;
      instances: { input: string; output: string }[];
    }[];
    const rows = tasks.flatMap(({ instruction, instances }) =>
      instances.map((instance) => ({ instruction, ...instance })),
    );
    const dataset = readDataset(JSON.stringify(rows), 'seed_tasks.json');
    assert.equal(dataset.rows.length + dataset.dropped.length, rows.length);
    assert(dataset.rows.length >= 175);
    check(dataset, 'sft');
  },
);
