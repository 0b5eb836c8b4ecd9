// A tokenizer's files as GGUF tables: read back they give the same ids; and the same files as transformers needs them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ggufTables } from '../../src/tokenizer/gguf-tables.js';
import { tokenizerFilesFromGguf } from '../../src/tokenizer/gguf-tokenizer.js';
import { hubFiles } from '../../src/tokenizer/hub-files.js';
import { PRE_TOKENIZERS, preTokenizerJson } from '../../src/tokenizer/pre-tokenizers.js';
import type { TokenizerFiles } from '../../src/tokenizer/tokenizer-files.js';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { fixtureFiles, readExpected } from '../helpers/tokenizer-fixture.js';

const files = fixtureFiles();
const MODEL = { vocabSize: 330, bosTokenId: 1, eosTokenIds: [2], addBos: false };

function metadata(source: TokenizerFiles, model = MODEL): Map<string, unknown> {
  return new Map(Object.entries(ggufTables(source, model)).map(([key, { value }]) => [key, value]));
}

test('the tables of a byte-level tokenizer give the same ids, template and ends', () => {
  const tables = metadata(files);
  assert.equal(tables.get('tokenizer.ggml.pre'), 'smollm');
  const read = createTokenizer(tokenizerFilesFromGguf(tables));
  const { texts, ids } = readExpected();
  assert.deepEqual(
    texts.map((text) => read.encode(text, { allowSpecial: true })),
    ids,
  );
  // The reader of GGUF adds tokens that end a text in every model: <|endoftext|>.
  assert.deepEqual(read.eosTokenIds, [2, 0]);
  assert.equal(read.chatTemplateHash, createTokenizer(files).chatTemplateHash);
});

test('every row of the embedding has a token; rows without one are unused', () => {
  const tables = metadata(files);
  const tokens = tables.get('tokenizer.ggml.tokens') as readonly string[];
  const types = tables.get('tokenizer.ggml.token_type') as readonly number[];
  assert.equal(tokens.length, 330);
  assert.deepEqual([tokens[329], types[329]], ['[PAD329]', 5]);
  assert.deepEqual([tokens[0], types[0], types[200]], ['<|endoftext|>', 3, 1]);
});

test('every pre-tokenizer that is read from GGUF is found again', () => {
  for (const [name, entry] of PRE_TOKENIZERS) {
    const { model } = files.tokenizerJson;
    const tokenizerJson = {
      ...files.tokenizerJson,
      normalizer: entry.normalizer === undefined ? null : { type: entry.normalizer },
      pre_tokenizer: preTokenizerJson(entry, false),
      model: { ...model, ignore_merges: entry.ignoreMerges === true },
    };
    const found = PRE_TOKENIZERS.get(
      metadata({ ...files, tokenizerJson }).get('tokenizer.ggml.pre') as string,
    );
    assert.deepEqual({ ...found, addsBos: undefined }, { ...entry, addsBos: undefined }, name);
  }
});

test('the ends are told apart: the named one first', () => {
  const tables = metadata({ ...files, generationConfig: { eos_token_id: [0, 2, 3] } });
  const ids = ['eos', 'eot', 'eom', 'bos', 'padding'].map((name) =>
    tables.get(`tokenizer.ggml.${name}_token_id`),
  );
  assert.deepEqual(ids, [2, 0, 3, 1, 3]);
});

test('a pre-tokenizer that llama.cpp does not know is refused by name', () => {
  const tokenizerJson = { ...files.tokenizerJson, pre_tokenizer: { type: 'Whitespace' } };
  assert.throws(() => ggufTables({ ...files, tokenizerJson }, MODEL), {
    code: 'unsupported_model',
    message: /pre-tokenizer of tokenizer\.json in GGUF .*smollm/,
  });
  const wordPiece = { ...files.tokenizerJson, model: { type: 'WordPiece', vocab: {} } };
  assert.throws(() => ggufTables({ ...files, tokenizerJson: wordPiece }, MODEL), /`"WordPiece"` in GGUF/);
});

test('byte fallback over ▁ becomes scores in the order of the merges', () => {
  const vocab = {
    '<unk>': 0,
    '<s>': 1,
    '</s>': 2,
    '<0x0A>': 3,
    '▁': 4,
    h: 5,
    i: 6,
    '▁h': 7,
    hi: 8,
    '▁hi': 9,
  };
  const special = (id: number, content: string) => ({ id, content, special: true });
  const tokenizerJson = {
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    model: { type: 'BPE', byte_fallback: true, vocab, merges: ['h i', '▁ h', '▁h i', '▁ hi'] },
  };
  const tokenizerConfig = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' };
  const model = { vocabSize: 10, bosTokenId: 1, eosTokenIds: [2], addBos: true };
  const tables = metadata({ tokenizerJson, tokenizerConfig }, model);
  assert.equal(tables.get('tokenizer.ggml.model'), 'llama');
  assert.equal(tables.get('tokenizer.ggml.add_space_prefix'), true);
  assert.equal(tables.get('tokenizer.ggml.add_bos_token'), true);
  assert.deepEqual(tables.get('tokenizer.ggml.token_type'), [2, 3, 3, 6, 1, 1, 1, 1, 1, 1]);
  const scores = tables.get('tokenizer.ggml.scores') as readonly number[];
  assert.deepEqual(scores.slice(7), [-1, -0, -2]);
  const { model: bpe } = tokenizerJson;
  for (const merges of [bpe.merges.slice(0, 3), [...bpe.merges.slice(2), ...bpe.merges.slice(0, 2), '▁h i']])
    assert.throws(
      () =>
        ggufTables(
          { tokenizerJson: { ...tokenizerJson, model: { ...bpe, merges } }, tokenizerConfig },
          model,
        ),
      /merges in tokenizer\.json, at `"▁hi"`, in GGUF/,
    );
  const lower = { ...tokenizerJson, normalizer: { type: 'Lowercase' } };
  assert.throws(() => ggufTables({ tokenizerJson: lower, tokenizerConfig }, model), /Lowercase/);
});

test('files for transformers name a class that keeps tokenizer.json, and put BOS in front where the base does', () => {
  const generated = tokenizerFilesFromGguf(metadata(files, { ...MODEL, addBos: true }));
  const written = hubFiles(generated, { ...MODEL, addBos: true });
  const json = (name: string): Record<string, unknown> => JSON.parse(written.get(name)!);
  assert.equal(json('tokenizer_config.json')['tokenizer_class'], 'PreTrainedTokenizerFast');
  assert.deepEqual(json('generation_config.json'), { bos_token_id: 1, eos_token_id: [2, 0] });
  const tokenizer = createTokenizer({
    tokenizerJson: json('tokenizer.json'),
    tokenizerConfig: json('tokenizer_config.json'),
  });
  assert.equal(tokenizer.encode('the')[0], 1);
  assert.deepEqual(hubFiles(files, MODEL).get('tokenizer.json'), `${JSON.stringify(files.tokenizerJson)}\n`);
});
