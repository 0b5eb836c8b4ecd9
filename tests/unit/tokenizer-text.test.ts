// Text to ids and back, against ids that Python's tokenizers made (tests/fixtures/tokenizer-expected.json).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { fixtureFiles, fixtureTokenizer, randomNumbers, readExpected } from '../helpers/tokenizer-fixture.js';

const expected = readExpected();
const tokenizer = fixtureTokenizer();

test('texts encode to the ids that Python gives and decode to its texts', () => {
  assert.equal(expected.texts.length, 9);
  for (const [index, text] of expected.texts.entries()) {
    const ids = expected.ids[index]!;
    assert.deepEqual(tokenizer.encode(text, { allowSpecial: true }), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), expected.decoded[index]);
    assert.equal(tokenizer.decode(ids, { skipSpecial: true }), expected.decoded_skip_special[index]);
  }
});

test('the numbers of the vocabulary come from the files', () => {
  assert.equal(tokenizer.vocabSize, 320);
  assert.equal(tokenizer.bosTokenId, 1);
  assert.deepEqual(tokenizer.eosTokenIds, [2]);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 319].map((id) => tokenizer.isSpecial(id)),
    [true, true, true, true, false, false],
  );
});

test('eos ids are those of the generation config and the eos token', () => {
  const { eosTokenIds } = fixtureTokenizer({ generationConfig: { eos_token_id: [0, 3] } });
  assert.deepEqual(eosTokenIds, [0, 3, 2]);
});

test('a special token written in a text is plain text', () => {
  const text = 'a<|im_end|>b';
  const ids = tokenizer.encode(text);
  assert.deepEqual(ids, [68, 31, 95, 76, 80, 66, 72, 81, 71, 95, 33, 69]);
  assert.equal(tokenizer.decode(ids, { skipSpecial: true }), text);
  assert.deepEqual(tokenizer.encode(text, { allowSpecial: true }), [68, 2, 69]);
});

test('a special token that merges can reach does not come from text either', () => {
  const files = fixtureFiles();
  const { model, added_tokens } = files.tokenizerJson;
  const id = model.vocab['he']!;
  added_tokens.push({ id, content: 'he', special: true });
  const forged = createTokenizer(files);
  assert.deepEqual(forged.encode('he', { allowSpecial: true }), [id]);
  assert.deepEqual(forged.encode('he'), [model.vocab['h'], model.vocab['e']]);
});

test('an added token that is not special is taken from any text', () => {
  const files = fixtureFiles();
  files.tokenizerJson.added_tokens.push({ id: 320, content: '<think>', special: false });
  const thinking = createTokenizer(files);
  assert.deepEqual(thinking.encode('hi<think>'), [75, 76, 320]);
  assert.equal(thinking.decode([75, 76, 320], { skipSpecial: true }), 'hi<think>');
  assert.equal(thinking.isSpecial(320), false);
});

test('a control token that the file does not flag is special all the same', () => {
  const files = fixtureFiles();
  files.tokenizerJson.added_tokens.push({ id: 320, content: '<｜User｜>', special: false });
  const deepseek = createTokenizer(files);
  assert.equal(deepseek.isSpecial(320), true);
  assert.ok(!deepseek.encode('<｜User｜>').includes(320));
});

test('BOS is put in front where the base wants it, and never twice', () => {
  const files = fixtureFiles();
  const processor = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|im_start|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  };
  const wanting = createTokenizer({
    ...files,
    tokenizerJson: { ...files.tokenizerJson, post_processor: { type: 'Sequence', processors: [processor] } },
  });
  assert.deepEqual(wanting.encode('hi'), [1, 75, 76]);
  assert.deepEqual(wanting.encode('hi', { addBos: false }), [75, 76]);
  assert.deepEqual(wanting.encode('<|im_start|>hi', { allowSpecial: true }), [1, 75, 76]);
  assert.deepEqual(wanting.encodeChat(expected.chats[0]!.messages), expected.chats[0]!.ids);
  const said = createTokenizer({
    ...files,
    tokenizerConfig: { ...files.tokenizerConfig, add_bos_token: true },
  });
  assert.deepEqual(said.encode('hi'), [1, 75, 76]);
});

test('a token has its raw bytes, special tokens those of their text', () => {
  const [first, second] = tokenizer.encode('é世').map((id) => [...tokenizer.tokenBytes(id)]);
  assert.deepEqual([first, second], [[0xc3, 0xa9], [0xe4]]);
  assert.equal(new TextDecoder().decode(tokenizer.tokenBytes(1)), '<|im_start|>');
  assert.deepEqual(tokenizer.tokenBytes(5000), new Uint8Array());
});

test('a stream gives whole characters, and together what decode gives', () => {
  const decoder = tokenizer.streamDecoder();
  const ids = tokenizer.encode('世😀', { allowSpecial: true });
  assert.equal(ids.length, 7);
  assert.deepEqual(
    [...ids.map((id) => decoder.push(id)), decoder.flush()],
    ['', '', '世', '', '', '', '😀', ''],
  );
  const broken = tokenizer.streamDecoder();
  assert.deepEqual(
    [broken.push(ids[0]!), broken.push(2), broken.push(ids[1]!), broken.flush()],
    ['', '', '', '\ufffd'],
  );
});

test('for any sequence of tokens the stream equals the whole', () => {
  const random = randomNumbers(7);
  for (let round = 0; round < 300; round++) {
    const ids = Array.from({ length: random(40) }, () => random(round % 2 === 0 ? 330 : 260));
    const decoder = tokenizer.streamDecoder();
    const pushed = ids.map((id) => decoder.push(id));
    assert.equal(
      pushed.join('') + decoder.flush(),
      tokenizer.decode(ids, { skipSpecial: true }),
      ids.join(' '),
    );
  }
});

test('what is no token id is refused by its value', () => {
  for (const id of [-1, 1.5, NaN])
    assert.throws(
      () => tokenizer.decode([id]),
      (error) =>
        error instanceof GatewayError && error.code === 'invalid_value' && error.message.includes(String(id)),
    );
});

test('a long run of one character and of white space encodes and decodes', () => {
  for (const text of ['a'.repeat(20_000), ' '.repeat(20_000) + 'x', '\n'.repeat(5000)])
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
});

test('digits and white space are those of Unicode, as in the original', () => {
  // U+0663 is a digit, U+0085 is white space and U+FEFF is not: JavaScript's \d and \s see all three otherwise.
  const files = fixtureFiles();
  const { vocab, merges } = files.tokenizerJson.model;
  vocab['Ù£'] = 320;
  vocab['Ù£Ù£'] = 321;
  merges.push(['Ù', '£'], ['Ù£', 'Ù£']);
  assert.deepEqual(createTokenizer(files).encode('\u0663\u0663'), [320, 320]);
});

test('what cannot be tokenized exactly is refused by name', () => {
  const files = fixtureFiles();
  const refused = (changes: object, code: string, message: RegExp) =>
    assert.throws(
      () => createTokenizer({ ...files, tokenizerJson: { ...files.tokenizerJson, ...changes } }),
      (error) => error instanceof GatewayError && error.code === code && message.test(error.message),
    );
  refused({ model: { type: 'Unigram', vocab: { a: 1 } } }, 'unsupported_model', /type Unigram .* BPE/);
  refused({ model: { type: 'BPE', vocab: {}, merges: [] } }, 'invalid_file', /model\.vocab/);
  refused({ model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, 'invalid_file', /"a".*-1/);
  refused({ pre_tokenizer: { type: 'Whitespace' } }, 'unsupported_model', /Whitespace/);
  refused(
    { pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithNext' } },
    'unsupported_model',
    /MergedWithNext/,
  );
  refused({ decoder: { type: 'WordPiece' } }, 'unsupported_model', /WordPiece/);
  refused({ normalizer: { type: 'Nothing' } }, 'invalid_file', /Nothing/);
  refused({ added_tokens: [{ id: 1 }] }, 'invalid_file', /added_tokens/);
});
