// The tokenizer rebuilt from a GGUF's tables, against the fixture's own files and against llama.cpp's vocabularies with their texts and ids.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readGguf } from '../../src/formats/gguf.js';
import { tokenizerFilesFromGguf } from '../../src/tokenizer/gguf-tokenizer.js';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { fixtureFiles, readExpected, sharedData } from '../helpers/tokenizer-fixture.js';

/** The fixture's tokenizer as a GGUF would carry it. */
function fixtureMetadata(changes: Record<string, unknown> = {}): ReadonlyMap<string, unknown> {
  const { tokenizerJson, chatTemplate } = fixtureFiles();
  const { vocab, merges } = tokenizerJson.model;
  const tokens = Object.entries(vocab)
    .toSorted(([, a], [, b]) => a - b)
    .map(([token]) => token);
  const entries = {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'smollm',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': tokens.map((_, id) => (id < 4 ? 3 : 1)),
    'tokenizer.ggml.merges': merges.map((merge) => [merge].flat().join(' ')),
    'tokenizer.ggml.bos_token_id': 1,
    'tokenizer.ggml.eos_token_id': 2,
    'tokenizer.ggml.unknown_token_id': 0,
    'tokenizer.ggml.padding_token_id': 3,
    'tokenizer.ggml.add_bos_token': false,
    'tokenizer.chat_template': chatTemplate,
    ...changes,
  };
  return new Map(Object.entries(entries).filter(([, value]) => value !== undefined));
}

const fromTables = (changes?: Record<string, unknown>) =>
  createTokenizer(tokenizerFilesFromGguf(fixtureMetadata(changes)));

test('the tables give the same ids as the files', () => {
  const expected = readExpected();
  const tokenizer = fromTables();
  for (const [index, text] of expected.texts.entries())
    assert.deepEqual(
      tokenizer.encode(text, { allowSpecial: true }),
      expected.ids[index],
      JSON.stringify(text),
    );
  for (const { messages, ids } of expected.chats) assert.deepEqual(tokenizer.encodeChat(messages), ids);
  assert.equal(tokenizer.vocabSize, 320);
  assert.equal(tokenizer.bosTokenId, 1);
});

test('what ends a text: the ids the file names, and control tokens that always do', () => {
  assert.deepEqual(fromTables().eosTokenIds, [2, 0]);
  assert.deepEqual(fromTables({ 'tokenizer.ggml.eot_token_id': 3 }).eosTokenIds, [2, 3, 0]);
});

test('BOS: as the file says, else as the pre-tokenizer has it', () => {
  const ids = (changes: Record<string, unknown>) => fromTables(changes).encode('hi');
  assert.deepEqual(ids({ 'tokenizer.ggml.add_bos_token': true }), [1, 75, 76]);
  assert.deepEqual(ids({ 'tokenizer.ggml.add_bos_token': undefined }), [75, 76]);
  assert.deepEqual(
    ids({ 'tokenizer.ggml.add_bos_token': undefined, 'tokenizer.ggml.pre': 'llama-bpe' }),
    [1, 75, 76],
  );
});

test('the pre-tokenizer decides how text is cut', () => {
  const text = '\n\n1';
  const withMerge = (pre: string | undefined) => {
    const { tokenizerJson } = fixtureFiles();
    const tokens = Object.keys(tokenizerJson.model.vocab);
    const merges = ['Ċ Ċ', '1 1', '11 1'];
    const all = [...tokens, 'ĊĊ', '11', '111'];
    return fromTables({
      'tokenizer.ggml.pre': pre,
      'tokenizer.ggml.tokens': all,
      'tokenizer.ggml.token_type': all.map((_, id) => (id < 4 ? 3 : 1)),
      'tokenizer.ggml.merges': merges,
    });
  };
  const pieces = (pre: string | undefined, of: string) => {
    const tokenizer = withMerge(pre);
    return tokenizer.encode(of, { addBos: false }).map((id) => tokenizer.decode([id]));
  };
  assert.deepEqual(pieces('smollm', text), ['\n\n', '1']);
  assert.deepEqual(pieces('gpt-2', text), ['\n', '\n', '1']);
  assert.deepEqual(pieces('qwen2', text), ['\n\n', '1']);
  assert.deepEqual(pieces('smollm', '111'), ['1', '1', '1']);
  assert.deepEqual(pieces('gpt-2', '111'), ['111']);
  assert.deepEqual(pieces('qwen2', '111'), ['1', '1', '1']);
  assert.deepEqual(pieces('llama-bpe', '1111'), ['111', '1']);
  assert.deepEqual(pieces(undefined, '1111'), ['111', '1']);
});

test('a piece that is a token as a whole skips the merges for llama-bpe', () => {
  const changes = { 'tokenizer.ggml.merges': [], 'tokenizer.ggml.add_bos_token': false };
  assert.equal(fromTables({ ...changes, 'tokenizer.ggml.pre': 'llama-bpe' }).encode('the').length, 1);
  assert.equal(fromTables({ ...changes, 'tokenizer.ggml.pre': 'smaug-bpe' }).encode('the').length, 3);
});

test('what is not supported is refused by name, with what is', () => {
  const refused = (changes: Record<string, unknown>, code: string, message: RegExp) =>
    assert.throws(
      () => fromTables(changes),
      (error) => error instanceof GatewayError && error.code === code && message.test(error.message),
    );
  refused({ 'tokenizer.ggml.model': 'llama' }, 'unsupported_model', /tokenizer\.ggml\.model `"llama"`.*gpt2/);
  refused({ 'tokenizer.ggml.pre': 'kimi-k2' }, 'unsupported_model', /`"kimi-k2"`.*smollm.*llama-bpe.*qwen2/);
  refused({ 'tokenizer.ggml.tokens': 7 }, 'invalid_file', /tokens/);
  refused({ 'tokenizer.ggml.token_type': [1] }, 'invalid_file', /token_type.*320/);
  refused({ 'tokenizer.ggml.merges': ['ab'] }, 'invalid_file', /merges.*`"ab"`/);
  refused({ 'tokenizer.ggml.eos_token_id': 320 }, 'invalid_file', /eos_token_id.*`320`/);
});

for (const name of ['gpt-2', 'qwen2']) {
  const path = join(sharedData, 'tokenizers', `ggml-vocab-${name}.gguf`);
  const skip = existsSync(path) ? false : `${path} is not there`;
  test(`the vocabulary of ${name}: every text has llama.cpp's ids`, { skip }, () => {
    const { metadata } = readGguf(bytesSource(name, readFileSync(path)));
    const tokenizer = createTokenizer(tokenizerFilesFromGguf(metadata));
    // Each text is followed by the separator, each line of ids by a newline.
    const texts = readFileSync(`${path}.inp`, 'utf8').split('\n__ggml_vocab_test__\n').slice(0, -1);
    const lines = readFileSync(`${path}.out`, 'utf8').split('\n').slice(0, -1);
    assert.equal(texts.length, 46);
    assert.equal(lines.length, 46);
    for (const [index, text] of texts.entries()) {
      const ids = tokenizer.encode(text, { addBos: false });
      assert.equal(ids.join(' '), lines[index]!.trim(), JSON.stringify(text));
      assert.equal(tokenizer.decode(ids), text);
    }
  });
}
