// A SentencePiece-style vocabulary in tokenizer.json: "▁" for a space, <0xNN> for bytes, one space dropped at the start.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';

function llama2Files() {
  const pieces = ['<unk>', '<s>', '</s>'];
  for (let byte = 0; byte < 256; byte++)
    pieces.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  pieces.push('▁', 'h', 'i', '▁h', '▁hi', '<', 's', '>', '/', 'é');
  const special = { special: true, normalized: false, lstrip: false, rstrip: false };
  return {
    tokenizerJson: {
      added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, ...special })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: [
          ['▁', 'h'],
          ['▁h', 'i'],
        ],
      },
    },
    tokenizerConfig: { bos_token: '<s>', eos_token: { content: '</s>' }, unk_token: '<unk>' },
  };
}

const tokenizer = createTokenizer(llama2Files());
const byteId = (byte: number) => 3 + byte;

test('words, spaces and byte fallback', () => {
  const ids = tokenizer.encode('hi hi€');
  assert.deepEqual(ids, [1, 263, 263, byteId(0xe2), byteId(0x82), byteId(0xac)]);
  assert.equal(tokenizer.decode(ids, { skipSpecial: true }), 'hi hi€');
  assert.equal(tokenizer.decode(ids), '<s> hi hi€');
  assert.deepEqual(tokenizer.eosTokenIds, [2]);
});

test('bytes of a token', () => {
  assert.deepEqual([...tokenizer.tokenBytes(263)], [0x20, 0x68, 0x69]);
  assert.deepEqual([...tokenizer.tokenBytes(byteId(0xe2))], [0xe2]);
  assert.deepEqual([...tokenizer.tokenBytes(268)], [0xc3, 0xa9]);
});

test('a stream drops only the first space and never cuts a character', () => {
  const decoder = tokenizer.streamDecoder();
  const ids = [263, 263, byteId(0xe2), byteId(0x82), byteId(0xac)];
  assert.deepEqual([...ids.map((id) => decoder.push(id)), decoder.flush()], ['hi', ' hi', '', '', '€', '']);
});

test('special tokens in text are spelled out', () => {
  assert.deepEqual(tokenizer.encode('</s>', { addBos: false }), [259, 264, 267, 265, 266]);
  assert.deepEqual(tokenizer.encode('</s>', { addBos: false, allowSpecial: true }), [2]);
});
