// Every format of a dataset's file to examples: what a row becomes, and how a format is told by its keys.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { readDataset } from '../../src/data/dataset-reader.js';
import { type DatasetFormat, detectFormat } from '../../src/data/row-mapping.js';
import type { Example } from '../../src/data/types.js';

const jsonl = (...rows: unknown[]): string => rows.map((row) => JSON.stringify(row)).join('\n');
const exampleOf = (row: unknown, format: DatasetFormat | null = null): Example => {
  const { rows } = readDataset(jsonl(row), 'rows.jsonl', format);
  assert.equal(rows.length, 1);
  return rows[0]!.example;
};
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const system = (content: string) => ({ role: 'system', content });
const refusal = (pattern: RegExp) => (error: unknown) =>
  error instanceof GatewayError && error.code === 'invalid_file' && pattern.test(error.message);

test('OpenAI chat: weights are kept, developer is system, text parts are joined', () => {
  const parts = [
    { type: 'text', text: 'a' },
    { type: 'text', text: 'b' },
  ];
  const messages = [
    { role: 'developer', content: 'Be brief.' },
    { role: 'user', content: parts },
    { ...assistant('no'), weight: 0 },
    user('again'),
    { ...assistant('yes'), weight: 1 },
  ];
  assert.deepEqual(exampleOf({ messages }), {
    kind: 'chat',
    messages: [
      system('Be brief.'),
      user('ab'),
      { ...assistant('no'), weight: 0 },
      user('again'),
      { ...assistant('yes'), weight: 1 },
    ],
  });
});

test('OpenAI preference', () => {
  const row = {
    input: { messages: [system('s'), user('q')], tools: [], parallel_tool_calls: true },
    preferred_output: [assistant('good')],
    non_preferred_output: [assistant('bad')],
  };
  assert.deepEqual(exampleOf(row), {
    kind: 'preference',
    prompt: [system('s'), user('q')],
    chosen: [assistant('good')],
    rejected: [assistant('bad')],
  });
});

test('preference: texts, messages, answers that repeat the prompt, and no prompt at all are the same', () => {
  const expected = {
    kind: 'preference',
    prompt: [user('q')],
    chosen: [assistant('good')],
    rejected: [assistant('bad')],
  };
  const long = { chosen: [user('q'), assistant('good')], rejected: [user('q'), assistant('bad')] };
  assert.deepEqual(exampleOf({ prompt: 'q', chosen: 'good', rejected: 'bad' }), expected);
  assert.deepEqual(
    exampleOf({ prompt: [user('q')], chosen: [assistant('good')], rejected: assistant('bad') }),
    expected,
  );
  assert.deepEqual(exampleOf({ prompt: 'q', ...long }), expected);
  assert.deepEqual(exampleOf(long), expected);
});

test('prompt and completion: only the completion is learned', () => {
  assert.deepEqual(exampleOf({ prompt: 'q', completion: 'a' }), {
    kind: 'chat',
    messages: [user('q'), assistant('a')],
  });
  assert.deepEqual(
    exampleOf({ prompt: [user('1'), assistant('2'), user('3')], completion: [assistant('4')] }),
    { kind: 'chat', messages: [user('1'), { ...assistant('2'), weight: 0 }, user('3'), assistant('4')] },
  );
});

test('raw text', () => {
  assert.deepEqual(exampleOf({ text: ' as it is\n' }), { kind: 'text', text: ' as it is\n' });
});

test('Alpaca: input on the next line, history before it, an empty system text is none', () => {
  const row = { instruction: 'Add.', input: '1 1', output: '2', system: '', history: [['hi', 'hello']] };
  assert.deepEqual(exampleOf(row), {
    kind: 'chat',
    messages: [user('hi'), assistant('hello'), user('Add.\n1 1'), assistant('2')],
  });
  assert.deepEqual(exampleOf({ instruction: 'Hi', input: '', output: 'Ho', system: 'Be kind.' }), {
    kind: 'chat',
    messages: [system('Be kind.'), user('Hi'), assistant('Ho')],
  });
  assert.deepEqual(exampleOf({ instruction: 'q', chosen: 'good', rejected: 'bad' }), {
    kind: 'preference',
    prompt: [user('q')],
    chosen: [assistant('good')],
    rejected: [assistant('bad')],
  });
});

test('ShareGPT: a first system message wins over the system text of the row', () => {
  const from = (name: string, value: string) => ({ from: name, value });
  const turns = [from('human', 'q'), from('gpt', 'a')];
  assert.deepEqual(exampleOf({ conversations: turns, system: 'row' }), {
    kind: 'chat',
    messages: [system('row'), user('q'), assistant('a')],
  });
  assert.deepEqual(exampleOf({ conversations: [from('system', 'message'), ...turns], system: 'row' }), {
    kind: 'chat',
    messages: [system('message'), user('q'), assistant('a')],
  });
  assert.deepEqual(
    exampleOf({
      conversations: [from('human', 'q')],
      chosen: from('gpt', 'good'),
      rejected: from('gpt', 'bad'),
    }),
    { kind: 'preference', prompt: [user('q')], chosen: [assistant('good')], rejected: [assistant('bad')] },
  );
});

test('a JSON array and JSONL give the same rows, by their own places', () => {
  const rows = [{ text: 'one' }, { text: 'two' }];
  const places = (text: string) => readDataset(text, 'f').rows.map(({ place }) => place);
  assert.deepEqual(places(`\ufeff${JSON.stringify(rows, null, 2)}`), ['f row 1', 'f row 2']);
  assert.deepEqual(places(`{"text": "one"}\r\n\n{"text": "two"}\n`), ['f line 1', 'f line 3']);
});

test('fields that are not used are named', () => {
  const row = { id: 7, messages: [{ ...user('q'), name: 'Ann' }, assistant('a')] };
  assert.deepEqual(readDataset(jsonl(row, row), 'f').ignoredFields, ['id', 'messages[].name']);
});

test('a format is told by its keys, the closer one of two', () => {
  const cases: [Record<string, unknown>, DatasetFormat][] = [
    [{ messages: [] }, 'openai'],
    [{ input: {}, preferred_output: [], non_preferred_output: [] }, 'openai_preference'],
    [{ prompt: '', chosen: '', rejected: '' }, 'preference'],
    [{ prompt: '', completion: '' }, 'prompt_completion'],
    [{ text: '' }, 'text'],
    [{ instruction: '', input: '', output: '' }, 'alpaca'],
    [{ instruction: '', chosen: '', rejected: '' }, 'alpaca_preference'],
    [{ conversations: [] }, 'sharegpt'],
    [{ conversations: [], chosen: {}, rejected: {} }, 'sharegpt_preference'],
  ];
  for (const [row, format] of cases) assert.equal(detectFormat(row, 'f'), format);
});

test('keys of two formats or of none are refused with the candidates', () => {
  assert.throws(
    () => detectFormat({ instruction: '', output: '', text: '' }, 'f'),
    refusal(/^f: .*several formats: alpaca \(instruction, output\); text \(text\)\. Name one/),
  );
  assert.throws(
    () => detectFormat({ messages: [], chosen: [], rejected: [] }, 'f'),
    refusal(/openai \(messages\); preference/),
  );
  assert.throws(
    () => detectFormat({ question: '', answer: '' }, 'f'),
    refusal(/`question`, `answer`.*prompt_completion/),
  );
  const both = { instruction: 'q', output: 'a', text: 'q a' };
  assert.equal(exampleOf(both, 'text').kind, 'text');
  assert.equal(exampleOf(both, 'alpaca').kind, 'chat');
});

test("KTO's rows are not taken for answers to learn", () => {
  assert.throws(() => detectFormat({ messages: [], label: false }, 'f'), refusal(/`label`.*KTO/));
  assert.equal(detectFormat({ messages: [], label: 'sports' }, 'f'), 'openai');
});
