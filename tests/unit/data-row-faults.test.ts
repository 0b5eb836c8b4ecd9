// Rows that cannot be used: faults refuse the file with every place, rows of a wrong structure are dropped and reported.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { readDataset } from '../../src/data/dataset-reader.js';
import { countReasons } from '../../src/data/row-faults.js';

const user = (content: unknown) => ({ role: 'user', content });
const assistant = (content: unknown) => ({ role: 'assistant', content });
const system = (content: unknown) => ({ role: 'system', content });
const good = { messages: [user('q'), assistant('a')] };
const jsonl = (...rows: unknown[]): string => rows.map((row) => JSON.stringify(row)).join('\n');

function refusalOf(text: string): string {
  try {
    readDataset(text, 'train.jsonl');
  } catch (error) {
    assert(error instanceof GatewayError, String(error));
    assert.equal(error.code, 'invalid_file');
    assert.equal(error.param, 'train.jsonl');
    return error.message;
  }
  assert.fail('the file was not refused');
}

const lineOf = (row: unknown): string => refusalOf(jsonl(good, row)).split('\n')[1]!;

test('a fault names line, field, what was expected and what is there', () => {
  const cases: [unknown, RegExp][] = [
    [{ messages: 'hi' }, /^line 2, `messages`: expected a list of messages, got "hi"$/],
    [{}, /^line 2, `messages`: .* got nothing$/],
    [{ messages: ['hi'] }, /^line 2, `messages\[0\]`: expected \{"role", "content"\}, got "hi"$/],
    [
      { messages: [user('q'), assistant(null)] },
      /`messages\[1\]\.content`: expected a string, got null; write/,
    ],
    [
      { messages: [user('q'), { ...assistant('a'), weight: 2 }] },
      /`messages\[1\]\.weight`: expected 0 or 1, got 2/,
    ],
    [
      { messages: [{ ...user('q'), weight: 1 }, assistant('a')] },
      /`messages\[0\]\.weight`: only .*"assistant"/,
    ],
    [[good], /^line 2: expected a JSON object, got \[/],
  ];
  for (const [row, pattern] of cases) assert.match(lineOf(row), pattern);
  assert.match(refusalOf(`${jsonl(good)}\n{"messages": `), /\nline 2: is no JSON \(.*\); write each row/);
});

test('tools, function calls and media are refused by row', () => {
  const call = { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f' } }] };
  const image = { type: 'image_url', image_url: { url: 'x' } };
  const cases: [unknown, RegExp][] = [
    [{ ...good, tools: [{ type: 'function' }] }, /^line 2, `tools`: .*not supported; leave the row out/],
    [{ messages: [user('q'), call] }, /^line 2, `messages\[1\]\.tool_calls`/],
    [
      { messages: [user('q'), { role: 'tool', content: '1' }] },
      /`messages\[1\]\.role`: turns of the role "tool"/,
    ],
    [
      { messages: [user([image]), assistant('a')] },
      /`messages\[0\]\.content\[0\]`: only parts of type "text"/,
    ],
    [{ ...good, images: ['a.png'] }, /^line 2, `images`/],
  ];
  for (const [row, pattern] of cases) assert.match(lineOf(row), pattern);
  const empty = { ...good, tools: '[]', images: [], functions: null };
  assert.equal(readDataset(jsonl(empty), 'f').rows.length, 1);
});

test('faults of other formats', () => {
  const cases: [unknown, RegExp][] = [
    [{ instruction: 'i', output: 5 }, /`output`: expected a string, got 5/],
    [
      { instruction: 'i', output: 'o', history: [['only one']] },
      /`history\[0\]`: expected \[prompt, answer\]/,
    ],
    [{ prompt: 'p', completion: 1 }, /`completion`: expected a string or a list of messages, got 1/],
    [{ chosen: 'a', rejected: 'b' }, /`prompt`: is missing/],
    [
      { prompt: 'p', chosen: [assistant('a'), user('b')], rejected: 'c' },
      /`chosen`: expected one answer.*2 messages/,
    ],
    [
      { input: [], preferred_output: [], non_preferred_output: [] },
      /`input`: expected \{"messages"\}, got \[\]/,
    ],
    [{ text: ['a'] }, /`text`: expected a string, got \["a"\]/],
  ];
  for (const [row, pattern] of cases) assert.match(refusalOf(jsonl(row)), pattern);
});

test('all faults are collected, twenty are shown', () => {
  const message = refusalOf(jsonl(good, ...Array.from({ length: 23 }, () => ({ messages: 1 }))));
  assert.match(message, /^train\.jsonl: 23 of 24 rows cannot be used\./);
  const lines = message.split('\n').slice(1);
  assert.equal(lines.length, 21);
  assert.match(lines[19]!, /^line 21, /);
  assert.equal(lines[20], 'and 3 more');
});

test('a file without rows, a broken array, and a file of dropped rows are refused', () => {
  assert.match(refusalOf(' \n'), /the file is empty/);
  assert.match(refusalOf('[]'), /0 of 0 rows/);
  assert.match(refusalOf('[{"text": 1}'), /begins as a JSON array but is none/);
  assert.match(
    refusalOf(jsonl({ messages: [user('q')] }, { messages: [] })),
    /no row is left.*turn_count 1, no_turns 1.*train\.jsonl line 1: the last message/,
  );
});

test('rows of a wrong structure are dropped, each with its reason', () => {
  const from = (name: string, value: string) => ({ from: name, value });
  const chats: [unknown, string, RegExp][] = [
    [{ messages: [] }, 'no_turns', /no message/],
    [{ messages: [system('s')] }, 'no_turns', /no message/],
    [{ messages: [assistant('a')] }, 'role_order', /message 1 is of the role assistant, expected user/],
    [{ messages: [system('s'), user('q'), user('r')] }, 'role_order', /message 3/],
    [{ messages: [user('q'), assistant('a'), system('s')] }, 'role_order', /message 3 .*system/],
    [{ messages: [user('q'), assistant('a'), user('r')] }, 'turn_count', /user, expected assistant/],
    [{ messages: [user(' '), assistant('a')] }, 'empty_prompt', /message 1/],
    [{ messages: [user('q'), assistant('\n')] }, 'empty_answer', /message 2/],
    [{ messages: [user('q'), { role: 'bot', content: 'a' }] }, 'unknown_role', /"bot", expected "user"/],
  ];
  const dataset = readDataset(jsonl(good, ...chats.map(([row]) => row)), 'f');
  assert.equal(dataset.rows.length, 1);
  for (const [index, [, reason, detail]] of chats.entries()) {
    assert.equal(dataset.dropped[index]!.place, `f line ${index + 2}`);
    assert.equal(dataset.dropped[index]!.reason, reason);
    assert.match(dataset.dropped[index]!.detail, detail);
  }
  assert.deepEqual(countReasons(dataset.dropped), {
    role_order: 3,
    no_turns: 2,
    turn_count: 1,
    empty_prompt: 1,
    empty_answer: 1,
    unknown_role: 1,
  });
  const bing = { conversations: [from('human', 'q'), from('bing', 'a')] };
  const fine = { conversations: [from('human', 'q'), from('gpt', 'a')] };
  assert.equal(readDataset(jsonl(fine, bing), 'f').dropped[0]!.reason, 'unknown_role');
});

test('an empty answer that is not learned may stay', () => {
  const messages = [user('q'), { ...assistant(''), weight: 0 }, user('r'), assistant('a')];
  assert.equal(readDataset(jsonl({ messages }), 'f').rows.length, 1);
});

test('pairs: the same answers, an empty one, and a prompt that ends with an answer are dropped', () => {
  const fine = { prompt: 'p', chosen: 'a', rejected: 'b' };
  const rows = [
    { ...fine, rejected: 'a' },
    { ...fine, rejected: '' },
    { ...fine, prompt: [user('q'), assistant('a')] },
    { ...fine, rejected: [user('b')] },
    { prompt: [user('q')], chosen: [user('q'), assistant('a')], rejected: [user('q'), assistant('a')] },
  ];
  const { dropped } = readDataset(jsonl(fine, ...rows), 'f');
  assert.deepEqual(
    dropped.map(({ reason }) => reason),
    ['same_answers', 'empty_answer', 'turn_count', 'role_order', 'same_answers'],
  );
});
