// A tokenized dataset and the report on it: what was dropped, cut and masked, and the errors where little is left.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDataset, type Dataset } from '../../src/data/dataset-reader.js';
import { inspect } from '../../src/data/inspection.js';
import { maskText } from '../../src/data/mask-text.js';
import type { TokenizingOptions } from '../../src/data/tokenize-example.js';
import { tokenizeDataset } from '../../src/data/tokenized-dataset.js';
import { GatewayError } from '../../src/errors.js';
import { ByteTokenizer, TURN_END } from '../helpers/byte-tokenizer.js';
import { fixtureTokenizer } from '../helpers/tokenizer-fixture.js';

const OPTIONS: TokenizingOptions = {
  cutoffLength: 40,
  stage: 'sft',
  trainOnPrompt: false,
  maskHistory: false,
};
const tokenizer = new ByteTokenizer();
const chat = (question: string, answer: string, weight: 0 | 1 = 1) => ({
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content: answer, weight },
  ],
});
const read = (...rows: unknown[]): Dataset =>
  readDataset(rows.map((row) => JSON.stringify(row)).join('\n'), 'f');

test('the report counts every row once, and gives shares of what it says', () => {
  const dataset = tokenizeDataset(
    read(
      { ...chat('q', 'a'), id: 1 },
      chat('q', 'aa'),
      chat('q', 'a'.repeat(30)),
      chat('q', 'a', 0),
      { messages: [{ role: 'user', content: 'q' }] },
      chat('refused by the template', 'a'),
    ),
    tokenizer,
    OPTIONS,
  );
  const prompt = '<user\nq><assistant\n'.length;
  assert.deepEqual(inspect(dataset, tokenizer, 1), {
    numRows: 6,
    dropped: { turn_count: 1, all_labels_masked: 1, template_refused: 1 },
    droppedExamples: [
      'f line 5: the last message is of the role user, expected assistant',
      'f line 4: no token to learn',
      'f line 6: the template refuses these messages',
    ],
    ignoredFields: ['id'],
    numUsed: 3,
    numSegments: 3,
    tokens: { min: prompt + 2, p50: prompt + 3, p95: 40, max: 40, total: prompt * 2 + 5 + 40 },
    supervised: {
      min: 2,
      p50: 3,
      p95: 40 - prompt,
      max: 40 - prompt,
      count: 2 + 3 + 40 - prompt,
      share: (2 + 3 + 40 - prompt) / (prompt * 2 + 5 + 40),
    },
    truncated: { count: 1, share: 1 / 3 },
    split: { count: 0, share: 0 },
    numAnswersCut: 1,
    allMasked: { count: 1, share: 1 / 6 },
    endLearned: { count: 2, share: 2 / 3 },
    doubleBos: { count: 0, share: 0 },
    previews: ['<start>user\nq<end><start>assistant\n⟦a<end>⟧'],
  });
});

test('a template that writes BOS twice is seen', () => {
  const twice = fixtureTokenizer({
    chatTemplate: `{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}`,
  });
  const report = inspect(tokenizeDataset(read(chat('q', 'a')), twice, OPTIONS), twice);
  assert.deepEqual(report.doubleBos, { count: 1, share: 1 });
});

test('windows of texts and sides of pairs are segments', () => {
  const pairs = tokenizeDataset(read({ prompt: 'q', chosen: 'a', rejected: 'b' }), tokenizer, {
    ...OPTIONS,
    stage: 'dpo',
  });
  const report = inspect(pairs, tokenizer);
  assert.deepEqual([report.numUsed, report.numSegments, report.previews.length], [1, 2, 2]);
  const texts = tokenizeDataset(read({ text: 'x'.repeat(100) }), tokenizer, { ...OPTIONS, stage: 'pt' });
  const windows = inspect(texts, tokenizer);
  assert.deepEqual([windows.numSegments, windows.split], [3, { count: 1, share: 1 }]);
  assert.equal(windows.supervised.count, 100);
  assert.deepEqual(windows.endLearned, { count: 1, share: 1 / 3 });
});

test('over half of the rows without a label: an error that says what to check; at half there is none', () => {
  const half = read(chat('q', 'a'), chat('q', 'a', 0));
  assert.equal(tokenizeDataset(half, tokenizer, OPTIONS).rows.length, 1);
  assert.throws(
    () => tokenizeDataset(read(chat('q', 'a'), chat('q', 'a', 0), chat('q', 'a', 0)), tokenizer, OPTIONS),
    (error) =>
      error instanceof GatewayError &&
      error.code === 'all_labels_masked' &&
      error.status === 400 &&
      /^2 of 3 rows .* f line 2\. Check .*role assistant.*weight 0.*cutoff_len is 40/.test(error.message),
  );
});

test('a template that refuses over half of the rows ends it, with its own words and the first place', () => {
  assert.throws(
    () => tokenizeDataset(read(chat('refused by the template', 'a')), tokenizer, OPTIONS),
    (error) =>
      error instanceof GatewayError &&
      error.code === 'invalid_value' &&
      error.message === 'f line 1: the template refuses these messages',
  );
});

test('a base without a template is not the fault of a row', () => {
  const { messages } = chat('q', 'a');
  const without = {
    encodeChat(): number[] {
      throw new GatewayError('unsupported_parameter', 'no chat template', { param: 'messages' });
    },
  };
  assert.throws(
    () => tokenizeDataset(read({ messages }), Object.assign(new ByteTokenizer(), without), OPTIONS),
    /^GatewayError: no chat template$/,
  );
});

test('pairs that the cut makes the same are dropped', () => {
  const pair = (end: string) => ({
    prompt: 'q',
    chosen: `${'a'.repeat(60)}c`,
    rejected: `${'a'.repeat(60)}${end}`,
  });
  const fine = { prompt: 'q', chosen: 'a', rejected: 'b' };
  const dataset = tokenizeDataset(read(fine, pair('r')), tokenizer, { ...OPTIONS, stage: 'dpo' });
  assert.deepEqual(
    dataset.dropped.map(({ place, reason }) => [place, reason]),
    [['f line 2', 'same_answers']],
  );
});

test('marks can be others, and long examples are shortened', () => {
  const part = {
    tokens: Int32Array.of(65, 66, 67, TURN_END),
    labels: Int32Array.of(-100, -100, 67, TURN_END),
  };
  assert.equal(maskText(part, tokenizer, { marks: { open: '[', close: ']' } }), 'AB[C<end>]');
  assert.equal(maskText(part, tokenizer, { maxTokens: 3 }), 'AB⟦C⟧ ... (1 more tokens)');
});
