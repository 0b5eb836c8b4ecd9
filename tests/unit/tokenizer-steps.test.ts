// Encoding in steps: the same ids as the library that the tokenizer's files are made for gives, whoever else has a turn between the steps,
// and an end as soon as there are certainly too many.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Tokenizer } from '@huggingface/tokenizers';
import { GatewayError } from '../../src/errors.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readGguf } from '../../src/formats/gguf.js';
import { tokenizerFilesFromGguf } from '../../src/tokenizer/gguf-tokenizer.js';
import { ChatTemplate } from '../../src/tokenizer/chat-template.js';
import { SpecialLiterals } from '../../src/tokenizer/protected-text.js';
import { runSteps, type Steps, TEXT_PER_STEP } from '../../src/tokenizer/steps.js';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { type TokenizerFiles } from '../../src/tokenizer/tokenizer-files.js';
import { type TokenLimit } from '../../src/tokenizer/types.js';
import { fixtureFiles, fixtureTokenizer, randomNumbers, sharedData } from '../helpers/tokenizer-fixture.js';

const tokenizer = fixtureTokenizer();
const ALPHABET = [
  'a',
  'b',
  'Z',
  ' ',
  '  ',
  '\n',
  '\t',
  '7',
  '.',
  '!',
  "'s",
  'é',
  '世',
  '界',
  '😀',
  '👩‍👩‍👧',
  '\u0301',
];
const WORDS = [
  'the',
  ' quick',
  ' brown',
  '\n\n',
  '我们今天去公园散步',
  'Straße',
  '<|im_start|>',
  '<|im_end|>',
  '<|',
  '|>',
];

function randomTexts(count: number, seed: number): string[] {
  const random = randomNumbers(seed);
  const bit = () => {
    const [list, most] = random(2) === 0 ? [ALPHABET, 9] : [WORDS, 2];
    return list[random(list.length)]!.repeat(1 + random(most));
  };
  return Array.from({ length: count }, () => Array.from({ length: random(30) }, bit).join(''));
}

const LONG_TEXTS = [
  '我们今天去公园散步然后回家吃饭'.repeat(1500),
  'The quick brown fox, 1234 times.\n'.repeat(1500),
  ' '.repeat(30_000) + 'x',
  '\n'.repeat(30_000),
  'a'.repeat(30_000),
  '😀👩‍👩‍👧‍👦🇩🇪'.repeat(1500),
  '<|im_start|>user\n<|im_end|>'.repeat(3000),
];

/** The ids that the library's own encoding gives, which takes special tokens from any text. */
function libraryIds({ tokenizerJson }: TokenizerFiles, texts: readonly string[]): number[][] {
  const library = new Tokenizer({ ...tokenizerJson, post_processor: null, decoder: null }, {});
  return texts.map((text) => library.encode(text, { add_special_tokens: false }).ids);
}

function countSteps(steps: Steps<unknown>): number {
  let count = 1;
  while (steps.next().done !== true) count++;
  return count;
}

test('any text has the ids that the library gives', () => {
  const texts = [...randomTexts(400, 3), ...LONG_TEXTS];
  const expected = libraryIds(fixtureFiles(), texts);
  for (const [index, text] of texts.entries())
    assert.deepEqual(
      tokenizer.encode(text, { allowSpecial: true }),
      expected[index],
      JSON.stringify(text.slice(0, 200)),
    );
});

for (const name of ['gpt-2', 'qwen2']) {
  const path = join(sharedData, 'tokenizers', `ggml-vocab-${name}.gguf`);
  const skip = existsSync(path) ? false : `${path} is not there`;
  test(`the same over the vocabulary of ${name}`, { skip }, () => {
    const { metadata } = readGguf(bytesSource(name, readFileSync(path)));
    const files = tokenizerFilesFromGguf(metadata);
    const texts = [...randomTexts(150, 5), ...LONG_TEXTS].map((text) => text.slice(0, 12_000));
    const own = createTokenizer(files);
    for (const [index, expected] of libraryIds(files, texts).entries())
      assert.deepEqual(own.encode(texts[index]!, { allowSpecial: true, addBos: false }), expected);
  });
}

test('texts that are encoded by turns get the ids they get alone', () => {
  const all = LONG_TEXTS.map((text) => tokenizer.encodeSteps(text));
  const found = new Map<number, number[]>();
  while (found.size < all.length)
    for (const [index, steps] of all.entries()) {
      const step = steps.next();
      if (step.done === true && step.value !== undefined) found.set(index, step.value);
    }
  for (const [index, text] of LONG_TEXTS.entries())
    assert.deepEqual(found.get(index), tokenizer.encode(text), JSON.stringify(text.slice(0, 40)));
});

test('a short text is one step, a long one many, of whatever it is made', () => {
  assert.equal(countSteps(tokenizer.encodeSteps('a short text')), 1);
  assert.equal(countSteps(tokenizer.encodeChatSteps([{ role: 'user', content: 'hi' }])), 1);
  for (const text of LONG_TEXTS)
    assert.ok(countSteps(tokenizer.encodeSteps(text.repeat(10))) > 5, JSON.stringify(text.slice(0, 40)));
});

test('a chat in steps is the chat', () => {
  const messages = LONG_TEXTS.map((content) => ({ role: 'user', content }));
  const steps = tokenizer.encodeChatSteps(messages);
  assert.deepEqual([steps.next().done, steps.next().done], [false, false]);
  assert.deepEqual(runSteps(steps), tokenizer.encodeChat(messages));
});

test('a chat is rendered in many steps, be it one long message or very many short ones', () => {
  const { chatTemplate } = fixtureFiles();
  const template = new ChatTemplate(chatTemplate!, {}, () => new Date(0));
  const specials = new SpecialLiterals(['<|im_end|>']);
  const steps = (contents: readonly string[]): number => {
    const messages = contents.map((content) => ({ role: 'user', content }));
    return countSteps(template.render(messages, { addGenerationPrompt: true, variables: {} }, specials));
  };
  assert.equal(steps(['<|im_end|>']), 1);
  const long = '<|im_end|>'.repeat(200_000);
  assert.ok(steps([long]) >= long.length / TEXT_PER_STEP);
  // Marks, the list and the loop take 23 each.
  assert.ok(steps(Array.from({ length: 3000 }, () => '')) >= 60);
});

test('what lies across the end of a slice is one: a special literal, a mark, a character', () => {
  const literal = '<|im_end|>';
  const special = tokenizer.encode(literal, { allowSpecial: true, addBos: false })[0]!;
  const count = (ids: readonly number[]) => ids.filter((id) => id === special).length;
  const marks = runSteps(new SpecialLiterals([literal]).protect('', []));
  const ownCount = count(tokenizer.encodeChat([{ role: 'user', content: '' }]));
  for (let before = 0; before <= literal.length + 2; before++) {
    const content = `${'x'.repeat(TEXT_PER_STEP - before)}${literal}${'𝒜'.repeat(9)}`;
    const chat = tokenizer.encodeChat([{ role: 'user', content }]);
    assert.equal(count(chat), ownCount, `${before} characters before the end`);
    assert.ok(tokenizer.decode(chat, { skipSpecial: true }).includes(content));
    // As a template writes it that prints JSON in ASCII.
    const escaped = `${'x'.repeat(TEXT_PER_STEP - before)}\\uf8ffx`;
    assert.equal(runSteps(marks.restore(escaped)), escaped.replace('\\uf8ff', ''));
    const letters = `${'x'.repeat(TEXT_PER_STEP - before)}${'𝒜'.repeat(9)}`;
    assert.equal(tokenizer.decode(tokenizer.encode(letters), { skipSpecial: true }), letters);
  }
});

const limitOf = (maxTokens: number): TokenLimit => ({
  maxTokens,
  exceeded: () => new GatewayError('context_length_exceeded', `more than ${maxTokens}`),
});
const tooMany = (error: unknown) => error instanceof GatewayError && error.code === 'context_length_exceeded';

test('a limit lets through as many tokens as it says, and not one more', () => {
  for (const text of [...randomTexts(60, 8), ...LONG_TEXTS]) {
    const ids = tokenizer.encode(text, { allowSpecial: true });
    const within = tokenizer.encode(text, { allowSpecial: true, limit: limitOf(ids.length) });
    assert.deepEqual(within, ids);
    if (ids.length > 0)
      assert.throws(
        () => tokenizer.encode(text, { allowSpecial: true, limit: limitOf(ids.length - 1) }),
        tooMany,
      );
  }
  const messages = [{ role: 'user', content: 'hi' }];
  const count = tokenizer.encodeChat(messages).length;
  assert.equal(tokenizer.encodeChat(messages, { limit: limitOf(count) }).length, count);
  assert.throws(() => tokenizer.encodeChat(messages, { limit: limitOf(count - 1) }), tooMany);
});

test('what is far too long is given up in the first step', () => {
  for (const text of [
    'a'.repeat(5_000_000),
    ' '.repeat(5_000_000),
    '世'.repeat(2_000_000),
    '<|im_end|>'.repeat(100_000),
  ])
    for (const allowSpecial of [false, true])
      assert.throws(
        () => tokenizer.encodeSteps(text, { allowSpecial, limit: limitOf(1000) }).next(),
        tooMany,
      );
  const messages = Array.from({ length: 1001 }, () => ({ role: 'user', content: '' }));
  assert.throws(() => tokenizer.encodeChatSteps(messages, { limit: limitOf(1000) }).next(), tooMany);
});

test('characters without a token do not count towards the limit', () => {
  const files = fixtureFiles();
  const { vocab, merges } = files.tokenizerJson.model;
  // U+0104 stands for the byte 0x04.
  const id = vocab['\u0104']!;
  delete vocab['\u0104'];
  vocab['stand-in'] = id;
  assert.ok(!merges.flat().some((token) => token.includes('\u0104')));
  const lacking = createTokenizer(files);
  const text = '\u0004'.repeat(100_000);
  assert.deepEqual(lacking.encode(text, { limit: limitOf(10) }), []);
  assert.throws(() => lacking.encode(`${text}${'ab '.repeat(100)}`, { limit: limitOf(10) }), tooMany);
});
