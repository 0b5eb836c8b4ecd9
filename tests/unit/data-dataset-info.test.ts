// LLaMA-Factory's dataset_info.json: entries to mappings, and rows read by them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDatasetInfo } from '../../src/data/dataset-info.js';
import { readDataset } from '../../src/data/dataset-reader.js';
import type { Example } from '../../src/data/types.js';
import { GatewayError } from '../../src/errors.js';

const infoOf = (entry: unknown) => readDatasetInfo(JSON.stringify({ set: entry }), ['set'])[0]!;
function exampleOf(entry: object, row: unknown): Example {
  const { fileName, mapping } = infoOf({ file_name: 'rows.json', ...entry });
  return readDataset(JSON.stringify([row]), fileName, mapping).rows[0]!.example;
}
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });

test('an entry without columns is Alpaca with its usual ones', () => {
  assert.deepEqual(exampleOf({}, { instruction: 'q', input: 'x', output: 'a', system: 'not read' }), {
    kind: 'chat',
    messages: [user('q\nx'), assistant('a')],
  });
});

test('named columns replace the usual ones, and what is not named is not read', () => {
  const columns = { prompt: 'ask', response: 'say', system: 'be', history: 'past' };
  assert.deepEqual(exampleOf({ columns }, { ask: 'q', input: 'x', say: 'a', be: 's', past: [['1', '2']] }), {
    kind: 'chat',
    messages: [{ role: 'system', content: 's' }, user('1'), assistant('2'), user('q'), assistant('a')],
  });
});

test('a prompt column alone is raw text', () => {
  assert.deepEqual(exampleOf({ columns: { prompt: 'text' } }, { text: 'once' }), {
    kind: 'text',
    text: 'once',
  });
});

test('ranking reads pairs, in both forms', () => {
  const expected = {
    kind: 'preference',
    prompt: [user('q')],
    chosen: [assistant('good')],
    rejected: [assistant('bad')],
  };
  const columns = { prompt: 'instruction', query: 'input', chosen: 'up', rejected: 'down' };
  assert.deepEqual(
    exampleOf({ ranking: true, columns }, { instruction: 'q', input: '', up: 'good', down: 'bad' }),
    expected,
  );
  const turn = (from: string, value: string) => ({ from, value });
  assert.deepEqual(
    exampleOf(
      {
        ranking: true,
        formatting: 'sharegpt',
        columns: { messages: 'conversations', chosen: 'c', rejected: 'r' },
      },
      { conversations: [turn('human', 'q')], c: turn('gpt', 'good'), r: turn('gpt', 'bad') },
    ),
    expected,
  );
});

test('tags rename keys and roles; those not named keep their usual names', () => {
  const tags = { role_tag: 'who', content_tag: 'what', user_tag: 'me', assistant_tag: 'you' };
  assert.deepEqual(
    exampleOf(
      { formatting: 'sharegpt', columns: { messages: 'talk' }, tags },
      {
        talk: [
          { who: 'system', what: 's' },
          { who: 'me', what: 'q' },
          { who: 'you', what: 'a' },
        ],
      },
    ),
    { kind: 'chat', messages: [{ role: 'system', content: 's' }, user('q'), assistant('a')] },
  );
});

test('openai has its own names and weights', () => {
  const messages = [user('q'), { ...assistant('a'), weight: 0 }];
  assert.deepEqual(exampleOf({ formatting: 'openai' }, { messages }), { kind: 'chat', messages });
});

test('a row with something in a column of tools or media is refused', () => {
  const entry = { columns: { prompt: 'q', response: 'a', images: 'pictures', tools: 'api' } };
  assert.equal(exampleOf(entry, { q: 'q', a: 'a', pictures: [], api: '' }).kind, 'chat');
  assert.throws(() => exampleOf(entry, { q: 'q', a: 'a', pictures: ['1.png'] }), /row 1, `pictures`/);
  assert.throws(() => exampleOf(entry, { q: 'q', a: 'a', api: '[{}]' }), /row 1, `api`/);
});

test('names are kept in order, with file and number of samples', () => {
  const text = JSON.stringify({
    a: { file_name: 'a.json' },
    b: { file_name: 'b.json', num_samples: 5 },
    c: { hf_hub_url: 'x' },
  });
  assert.deepEqual(
    readDatasetInfo(text, ['b', 'a']).map(({ name, fileName, numSamples }) => [name, fileName, numSamples]),
    [
      ['b', 'b.json', 5],
      ['a', 'a.json', null],
    ],
  );
});

test('what cannot be honoured is refused by entry and key', () => {
  const refused = (entry: unknown, pattern: RegExp) =>
    assert.throws(
      () => infoOf(entry),
      (error) =>
        error instanceof GatewayError && error.code === 'invalid_file' && pattern.test(error.message),
    );
  refused({ hf_hub_url: 'a/b' }, /`set`: `hf_hub_url` is not downloaded/);
  refused({}, /`file_name` to be a name, got nothing/);
  refused(
    { file_name: 'f', formatting: 'xml' },
    /`formatting` to be one of alpaca, sharegpt, openai, got "xml"/,
  );
  refused({ file_name: 'f', column: {} }, /`column` is not known/);
  refused({ file_name: 'f', columns: { promt: 'p' } }, /`columns\.promt` is not known; .*prompt/);
  refused({ file_name: 'f', columns: { kto_tag: 'label' } }, /KTO is not supported/);
  refused({ file_name: 'f', columns: { prompt: 1 } }, /`columns\.prompt` to be a name, got 1/);
  refused({ file_name: 'f', ranking: true }, /`ranking` needs/);
  refused({ file_name: 'f', ranking: 'yes' }, /`ranking` to be true or false, got "yes"/);
  refused({ file_name: 'f', formatting: 'sharegpt', tags: { user: 'me' } }, /`tags\.user` is not known/);
  refused({ file_name: 'f', num_samples: 0 }, /`num_samples` to be a whole number from 1, got 0/);
  assert.throws(() => readDatasetInfo('{"a": {}, "b": {}}', ['c']), /`c`: is not there\. Known are a, b/);
  assert.throws(() => readDatasetInfo('{"a": {}, "a": {}}', ['a']), /the key "a" is there twice/);
  assert.throws(() => readDatasetInfo('[]', []), /expected an object/);
});
